"""Tables of `best-of-n` and `refine`: every problem is in every row, whatever became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from genprm.cli.main import app
from genprm.engines import Engine, Request, Scripted, ScriptedEngine, register_engine
from genprm.engines.table import ENGINES
from genprm.errors import EngineRequestError

TEXTS = {"right": "3", "empty": "3", "mute": "3", "refused": "3", "lost": "3", "unknown": None}


def policy() -> Engine:
    def respond(request: Request) -> str:
        asked = request.messages[-1].content
        if "lost" in asked:
            raise EngineRequestError("the policy does not take this")
        if "empty" in asked:
            return ""
        if "mute" in asked:
            return " I do not know.\n\nStep 2: Still not."
        return " We add.\n\nStep 2: The answer is \\boxed{3}."

    return ScriptedEngine(respond, name="policy")


def verifier() -> Engine:
    def respond(request: Request) -> Scripted:
        if "refused" in "".join(message.content for message in request.messages):
            raise EngineRequestError("the verifier does not take this")
        return Scripted("Yes}$", yes_probs=(0.9,))

    return ScriptedEngine(respond, name="verifier")


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[list[str]]:
    """What both commands are given."""
    for kind in ("policy", "verifier"):
        register_engine(f"table-{kind}", f"cli.test_cli_scaling:{kind}")
    problems = tmp_path / "problems.jsonl"
    rows = [{"id": text, "problem": f"The {text} one", "answer": answer} for text, answer in TEXTS.items()]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "roles": {"policy": {"kind": "table-policy"}, "verifier": {"kind": "table-verifier"}},
        "verify": {"components": "direct", "profile": "compact"},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    yield [str(problems), "-c", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "out.jsonl")]
    for kind in ("policy", "verifier"):
        del ENGINES[f"table-{kind}"]


def table(done: Result) -> dict[str, tuple[str, str]]:
    """Row -> share of right ones, and how many problems it counts."""
    assert done.exit_code == 0, done.output
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    return {row[0]: (row[1], row[3]) for row in cells if len(row) == 4}


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def test_every_rule_of_best_of_n_counts_the_same_problems(tmp_path: Path, asked: list[str]) -> None:
    """Without a text or an answer a problem is wrong; lost to a fault or without a reference it is unknown."""
    done = CliRunner().invoke(app, ["best-of-n", *asked, "-n", "2"])
    found = table(done)
    assert len(found) == 7
    assert set(found.values()) == {("33.3 %", "3 of 6")}
    assert [row["problem_id"] for row in rows(tmp_path)] == ["right", "empty", "mute", "lost", "unknown"]
    assert "note: best-of-n, solutions: 2 dropped as sample_empty, of problem empty" in done.stderr
    assert "note: best-of-n: 1 dropped as unverified, of problem refused" in done.stderr


def test_a_problem_without_a_first_solution_stays_in_the_table_of_refine(
    tmp_path: Path, asked: list[str]
) -> None:
    done = CliRunner().invoke(app, ["refine", *asked, "--turns", "1"])
    found = table(done)
    assert found == dict.fromkeys(["turn 0", "turn 1"], ("33.3 %", "3 of 6"))
    assert [row["problem_id"] for row in rows(tmp_path)] == ["right", "mute", "unknown"]
    assert "note: refine, solutions: 1 dropped as sample_empty, of problem empty" in done.stderr
    assert "1 dropped as engine_failed, of problem refused" in done.stderr
