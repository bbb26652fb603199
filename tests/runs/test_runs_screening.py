"""Problems that are left out before anything is sampled: counted, seen by no stage, no reason to compute others anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sums

from genprm.config import RunConfig, load_config
from genprm.errors import DataError
from genprm.runs import Assumptions, plan_run, run_pipeline
from genprm.store import RunReader


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    sums.calls.clear()
    yield


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return sums.write_problems(tmp_path / "problems.jsonl", 6)


def held(path: Path, *numbers: int) -> Path:
    """An evaluation set with these of the problems."""
    path.write_text("".join(json.dumps({"problem": f"what is {n} + {n + 3}"}) + "\n" for n in numbers))
    return path


def config(problems: Path, *sets: Path) -> RunConfig:
    chosen = load_config(None, model=RunConfig, base=sums.config(problems))
    named = {path.stem: str(path) for path in sets}
    return chosen.model_copy(
        update={"problems": chosen.problems.model_copy(update={"decontaminate": named})}
    )


async def test_no_stage_sees_what_is_left_out(tmp_path: Path, problems: Path) -> None:
    settings, folder = config(problems, held(tmp_path / "bench.jsonl", 1, 4, 5)), tmp_path / "run"
    (plan, *_) = plan_run(settings, "labels", Assumptions())
    assert plan.items == 3
    result = await run_pipeline(settings, folder, until="labels")
    reader = RunReader(folder)
    assert [row.id for row in reader.rows("problems")] == ["sum-0", "sum-2", "sum-3"]
    assert result.summaries["problems"].reasons == {"contaminated": 3}
    for stage in ("solutions", "montecarlo", "labels"):
        assert result.summaries[stage].problems == 3
        assert {row.problem_id for row in reader.rows(stage)} <= {"sum-0", "sum-2", "sum-3"}
    dropped = {row.problem_id: row.detail for row in reader.dropped("problems")}
    assert dropped["sum-4"] == f"also in bench, {tmp_path / 'bench.jsonl'}:2: 'what is 4 + 7'"
    (about,) = reader.about("sum-4").values()
    assert [row.reason for row in about.dropped] == ["contaminated"] and not about.rows


async def test_another_evaluation_set_touches_the_shards_that_it_changes(
    tmp_path: Path, problems: Path
) -> None:
    folder, first = tmp_path / "run", held(tmp_path / "first.jsonl", 1)
    await run_pipeline(config(problems, first), folder, until="solutions")
    asked = sums.calls["policy"]
    await run_pipeline(config(problems, first.rename(tmp_path / "moved.jsonl")), folder, until="solutions")
    assert sums.calls["policy"] == asked, "where a set stands decides nothing"
    more = held(tmp_path / "more.jsonl", 5)
    await run_pipeline(config(problems, tmp_path / "moved.jsonl", more), folder, until="solutions")
    again = {row.problem_id for row in RunReader(folder).rows("solutions")}
    assert again == {"sum-0", "sum-2", "sum-3", "sum-4"}
    # Shards hold two problems: of the last one a single problem is left, and drawn for anew.
    assert 0 < sums.calls["policy"] - asked < asked / 3


async def test_a_run_without_any_problem_left_says_so(tmp_path: Path, problems: Path) -> None:
    settings = config(problems, held(tmp_path / "bench.jsonl", *range(6)))
    with pytest.raises(DataError, match="all problems are left out: contaminated 6") as caught:
        await run_pipeline(settings, tmp_path / "run", until="labels")
    assert "problems.decontaminate" in caught.value.hint
