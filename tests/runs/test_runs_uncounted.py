"""An engine that counts no tokens: what a run says it cost is a lower bound, and is called one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sums
import yaml
from typer.testing import CliRunner

from genprm.cli.main import app
from genprm.engines import Completion, Engine, EngineBase, Request, register_engine
from genprm.records import Usage
from genprm.runs.costs import stage_costs
from genprm.store import RunReader
from genprm.text.counts import counted_tokens
from genprm.view.synthesis import cost_section


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    register_engine("silent-policy", "test_runs_uncounted:Silent")
    yield


class Silent(EngineBase):
    """The scripted policy behind a server that counts nothing."""

    def __init__(self) -> None:
        self._engine: Engine = sums.policy()

    @property
    def name(self) -> str:
        return "silent"

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        done = await self._engine.generate(requests)
        return [replace(one, usage=Usage(requests=1, uncounted=1)) for one in done]

    async def check(self) -> None:
        await self._engine.check()

    def describe(self) -> dict[str, Any]:
        return {"kind": "silent"}

    async def aclose(self) -> None:
        await self._engine.aclose()


def test_a_lower_bound_is_called_one(tmp_path: Path) -> None:
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 6), tmp_path / "run"
    config = sums.config(problems)
    config["roles"]["policy"] = {"kind": "silent-policy"}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    command = ["run", str(file), "-o", str(folder), "--until", "montecarlo"]

    piloted = CliRunner().invoke(app, [*command, "--dry-run", "--pilot", "2"], catch_exceptions=False)
    assert piloted.exit_code == 0, piloted.output
    assert "at least" in _line(piloted.output, "solutions")
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "at least 0" in _line(done.output, "solutions")
    assert "at least" not in _line(done.output, "montecarlo")

    stages = {stage.stage: stage for stage in RunReader(folder).stages()}
    cost = stage_costs(stages.values())
    assert cost.uncounted == {"solutions": stages["solutions"].usage.requests}
    (table,) = cost_section(cost, None).tables
    assert "requests without a count of tokens" in table.columns


def _line(output: str, stage: str) -> str:
    return next(line for line in output.splitlines() if stage in line)


def test_costs_add_up_with_what_nobody_counted() -> None:
    whole = Usage(requests=2, completion_tokens=9) + Usage(requests=1, uncounted=1)
    assert (whole.requests, whole.uncounted, whole.completion_tokens) == (3, 1, 9)
    assert (counted_tokens(1200, 0), counted_tokens(1200, 2)) == ("1,200", "at least 1,200")
