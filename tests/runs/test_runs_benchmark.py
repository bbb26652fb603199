"""`genprm eval` through scripted engines: what faults become, and what becomes of an earlier report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sums
from faulty_chain import Recorder

from genprm.config import RunConfig, load_config
from genprm.engines import Engine, register_engine
from genprm.errors import EngineRequestError
from genprm.records import Report
from genprm.runs.benchmark import run_benchmark


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    register_engine("sums-picky", "test_runs_benchmark:picky")
    yield
    sums.failing.clear()


def picky() -> Engine:
    """The verifier of `sums`, which refuses one problem for good."""
    engine = sums.verifier()
    respond = engine._respond  # type: ignore[attr-defined]

    def answer(request: Any) -> Any:
        if "What is 1 + 4?" in "\n".join(message.content for message in request.messages):
            raise EngineRequestError("too long for me")
        return respond(request)

    engine._respond = answer  # type: ignore[attr-defined]
    return engine


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    rows = [
        {
            "id": f"row-{i}",
            "problem": f"What is {i} + {i + 3}?",
            "steps": ["Step 1: We add.", f"Step 2: The answer is \\boxed{{{2 * i + 3 + i % 2}}}."],
            "label": 1 if i % 2 else -1,
        }
        for i in range(6)
    ]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"gsm8k": str(tmp_path / "gsm8k.jsonl")}


def config(*overrides: str, verifier: str = "sums-verifier") -> RunConfig:
    base = {
        "roles": {"verifier": {"kind": verifier}},
        "sandbox": {"tier": "plain", "workers": 1},
        "verify": {"profile": "compact"},
    }
    return load_config(None, overrides, model=RunConfig, base=base)


async def test_a_solution_lost_to_a_lasting_fault_is_counted_and_explained(
    tmp_path: Path, data: dict[str, str]
) -> None:
    report = await run_benchmark("processbench", data, config(verifier="sums-picky"), tmp_path / "run")
    assert report.benchmark is not None
    figures = report.benchmark.splits["gsm8k"]["pass@1"]
    assert (figures.erroneous, figures.correct) == (3, 3)
    assert figures.failed.value == pytest.approx(100 / 6)
    assert report.notes == (
        "1 of 6 solutions were lost to faults, most often: EngineRequestError: too long for me",
    )
    assert (await run_benchmark("processbench", data, config(), tmp_path / "other")).notes == ()


async def test_a_report_of_something_else_is_moved_and_not_overwritten(
    tmp_path: Path, data: dict[str, str]
) -> None:
    run = tmp_path / "run"
    told = Recorder()
    await run_benchmark("processbench", data, config(), run, progress=told)
    await run_benchmark("processbench", data, config(), run, progress=told)
    assert not (run / "superseded" / "reports").exists() and told.notes == []
    first = (run / "report.json").read_bytes()
    await run_benchmark("processbench", data, config("verify.votes=2"), run, progress=told)
    (kept,) = (run / "superseded" / "reports").iterdir()
    assert (kept / "report.json").read_bytes() == first
    assert (kept / "report.html").is_file()
    assert str(kept) in " ".join(told.notes)
    now = Report.model_validate_json((run / "report.json").read_bytes())
    assert now.benchmark is not None and now.benchmark.model.votes == 2
    await run_benchmark("processbench", data, config("verify.votes=2"), run, limit=2, progress=told)
    assert len(list((run / "superseded" / "reports").iterdir())) == 2
    (run / "report.json").write_text("{}")
    await run_benchmark("processbench", data, config("verify.votes=2"), run, limit=2, progress=told)
    assert len(list((run / "superseded" / "reports").iterdir())) == 3


async def test_a_report_counts_the_cost_of_its_own_splits(tmp_path: Path, data: dict[str, str]) -> None:
    """The folder is that of the model, and may hold other splits."""
    both = {**data, "math": str(tmp_path / "math.jsonl")}
    Path(both["math"]).write_bytes(Path(data["gsm8k"]).read_bytes())
    run = tmp_path / "run"
    first = await run_benchmark("processbench", data, config(), run)
    second = await run_benchmark("processbench", {"math": both["math"]}, config(), run)
    together = await run_benchmark("processbench", both, config(), run)
    for report, names in ((first, {"gsm8k"}), (second, {"math"}), (together, {"gsm8k", "math"})):
        assert report.cost is not None
        stages = {f"{name}-{stage}" for name in names for stage in ("solutions", "verifications")}
        for figures in (report.cost.tokens, report.cost.engine_seconds, report.cost.wall_seconds):
            assert set(figures) == stages
    assert together.seconds == pytest.approx(first.seconds + second.seconds, abs=0.002)
