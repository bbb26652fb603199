"""One problem's way through a real run of scripted engines, and what the run did not pass on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sums

from genprm.config import RunConfig, load_config
from genprm.errors import EngineTimeout, RunIncomplete, StoreError
from genprm.records import Dropped, Example, Problem
from genprm.runs import run_pipeline
from genprm.runs.scaling import best_of_n_chain, refinement_chain, run_chain
from genprm.sources import load_problems
from genprm.store import RunReader, RunStore, ShardRows, StageSummary
from genprm.view.dropped import dropped_reasons, dropped_text
from genprm.view.problem import problem_json, problem_text


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    yield
    sums.failing.clear()


async def make_run(tmp_path: Path, *overrides: str, until: str = "verifications") -> RunReader:
    problems = sums.write_problems(tmp_path / "problems.jsonl", 5)
    config = load_config(None, overrides, model=RunConfig, base=sums.config(problems))
    await run_pipeline(config, tmp_path / "run", until=until)
    return RunReader(tmp_path / "run")


async def test_everything_about_one_problem_is_found_and_nothing_about_others(tmp_path: Path) -> None:
    reader = await make_run(tmp_path)
    found = reader.about("sum-3")
    assert list(found) == sorted(
        [
            "problems",
            "solutions",
            "montecarlo",
            "labels",
            "rationales",
            "consensus",
            "chats",
            "verifications",
        ]
    )
    values = problem_json(found)
    assert json.loads(json.dumps(values)) == values
    for stage, made in values.items():
        assert made["rows"], stage
        assert all(row.get("problem_id", row.get("id")) == "sum-3" for row in made["rows"]), stage


async def test_a_problem_reads_from_its_text_to_its_chats(tmp_path: Path) -> None:
    text = problem_text((await make_run(tmp_path, "montecarlo.keep_completions=1")).about("sum-3"))
    parts = [
        "problem sum-3\n    What is 3 + 6?\nreference answer: 9",
        "solutions sum-3/0: answer 9, right",
        "    1. Step 1: We add the numbers.",
        "montecarlo, by scripted:sums completer: from the start",
        "after step 1: ",
        "completion, right:\n        Step 1: We add the numbers.",
        "after step 2: 1/1, its own answer",
        "labels, ratio from 0.8: right, right; first error: none",
        "rationales, by scripted:sums teacher, sample 0: first error: none",
        "consensus: kept, first error: none",
        "verifications, by scripted:sums verifier:",
        "first error: none; scores",
        "chats sum-3/0",
        "[system]",
        "solutions sum-3/1: answer 10, wrong",
        "labels, ratio from 0.8: right, wrong; first error: step 2",
        "consensus: kept, first error: step 2",
    ]
    place = 0
    for part in parts:
        assert part in text[place:], (part, text[place:])
        place = text.index(part, place)
    assert "sum-2" not in text


async def test_an_unknown_problem_names_ids_that_look_alike(tmp_path: Path) -> None:
    reader = await make_run(tmp_path, until="solutions")
    with pytest.raises(StoreError, match="no problem 'sum-33'") as caught:
        reader.about("sum-33")
    assert "sum-3" in caught.value.hint


async def test_pending_problems_and_unfinished_runs_can_be_looked_at(tmp_path: Path) -> None:
    sums.failing["completer"] = EngineTimeout("too slow")
    with pytest.raises(RunIncomplete):
        await make_run(tmp_path)
    found = RunReader(tmp_path / "run").about("sum-1")
    assert "pending in montecarlo: EngineTimeout: too slow" in problem_text(found)
    assert found["solutions"].rows


async def test_choices_and_refinements_are_told(tmp_path: Path) -> None:
    file = sums.write_problems(tmp_path / "problems.jsonl", 2)
    config = load_config(None, model=RunConfig, base=sums.config(file))
    problems = load_problems(config.problems)
    verifier = config.roles.verifier
    assert verifier is not None
    chain = best_of_n_chain(config, 2, verifier, name="best-of-n", seed=1)
    text = problem_text((await run_chain(chain, problems, config, tmp_path / "a")).about("sum-1"))
    assert "best-of-n, of 2 candidates:" in text and "mean: sum-1/0, answer 5, right" in text
    turns = refinement_chain(config, {"refinements": verifier}, name="refine", seed=1)
    text = problem_text((await run_chain(turns, problems, config, tmp_path / "b")).about("sum-1"))
    assert "refinements of sum-1/0, dialogue:" in text and "turn 0: answer 5, right" in text


TEXTS = {"sample_unfinished": "Step 1: We add and add", "sample_no_answer": "I cannot solve this."}


async def test_what_a_policy_wrote_instead_is_kept_and_shown(tmp_path: Path) -> None:
    """The samples that were dropped for a surplus are as readable as those with a flaw."""
    reader = await make_run(tmp_path, "solutions.batch=16", until="solutions")
    (surplus,) = dropped_reasons(reader, "solutions", "sample_surplus")
    assert surplus.count == 5 * 12
    assert [example.id for example in surplus.examples] == ["sum-0/4", "sum-0/5", "sum-2/4"]
    text = dropped_text([surplus])
    assert "solutions: sample_surplus 60" in text
    assert "    sum-0/4:\n        Step 1: We add the numbers." in text
    assert "Step 2: The answer is \\boxed{3}." in text


def stored(tmp_path: Path, rows: list[Dropped]) -> RunReader:
    with RunStore(tmp_path / "run") as store:
        stage = store.stage("solutions", Problem)
        stage.write(0, "k", ShardRows([], rows), recipe="r", problems=1, seconds=0.0)
        stage.write_summary(StageSummary(stage="solutions", row_type="Problem", recipe="r"))
    return RunReader(tmp_path / "run")


def test_reasons_are_counted_and_their_examples_bounded(tmp_path: Path) -> None:
    rows = [
        Dropped(
            item_id=f"p{i}",
            problem_id=f"p{i}",
            stage="solutions",
            reason=reason,
            detail=f"detail {i % 2}",
            count=i + 1,
            examples=(Example(id=f"p{i}/0", text=TEXTS[reason]),),
        )
        for i, reason in enumerate(["sample_unfinished", "sample_no_answer"] * 3)
    ]
    reader = stored(tmp_path, rows)
    found = dropped_reasons(reader, examples=2)
    assert [(one.reason, one.count) for one in found] == [
        ("sample_no_answer", 12),
        ("sample_unfinished", 9),
    ]
    assert [len(one.examples) for one in found] == [2, 2]
    assert found[0].details == ("detail 1",)
    assert dropped_reasons(reader, examples=0)[0].examples == ()
    with pytest.raises(StoreError, match="for the reason 'hard'") as caught:
        dropped_reasons(reader, reason="hard")
    assert "sample_no_answer, sample_unfinished" in caught.value.hint


def test_nothing_dropped_is_said(tmp_path: Path) -> None:
    assert dropped_text(dropped_reasons(stored(tmp_path, []))) == "nothing was dropped\n"


async def test_damaged_shards_are_not_taken_for_nothing_dropped(tmp_path: Path) -> None:
    reader = await make_run(tmp_path, "solutions.batch=16", "store.shard_size=1", until="solutions")
    for path in (tmp_path / "run" / "stages" / "solutions").glob("00000[12]-*.dropped.jsonl"):
        path.write_text("")
    for read in (lambda: dropped_reasons(reader), lambda: dropped_reasons(reader, "solutions")):
        with pytest.raises(StoreError, match="3 of 5 shards") as caught:
            read()
        assert "run/config.yaml', or the command that made the run" in caught.value.hint
    with pytest.raises(StoreError, match="3 of 5 shards"):
        reader.about("sum-1")
    assert reader.about("sum-3")["solutions"].rows


class Stopped(Exception):
    """Ends a run as a user may."""


async def test_a_run_with_other_shards_that_was_interrupted_shows_no_row_twice(tmp_path: Path) -> None:
    reader = await make_run(tmp_path, "store.shard_size=1", "solutions.batch=16", until="labels")
    before = {row.solution_id for row in reader.rows("labels")}
    counts = {(one.stage, one.reason): one.count for one in dropped_reasons(reader)}

    def stop(_name: str, number: int) -> None:
        if number > 1:
            raise Stopped

    sums.watching.append(stop)
    try:
        with pytest.raises(Stopped):
            await make_run(
                tmp_path,
                *("store.shard_size=2", "store.shards_in_flight=1", "solutions.batch=16"),
                until="labels",
            )
    finally:
        sums.watching.remove(stop)
    assert not reader.summary("labels").complete
    rows = [row.solution_id for row in reader.rows("labels", partial=True)]
    assert len(rows) == len(set(rows)) and set(rows) == before
    assert {(one.stage, one.reason): one.count for one in dropped_reasons(reader)} == counts
