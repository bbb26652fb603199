"""A run that begins with step labels from elsewhere: no policy, no completer, and chats in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sums

from genprm.config import RunConfig, load_config
from genprm.errors import ConfigError, DataError, StoreError
from genprm.runs import Assumptions, plan_run, run_pipeline
from genprm.store import RunReader
from genprm.view.data_card import origin_of, origin_rows

MARK = "ки"


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    sums.calls.clear()
    yield


def steps(number: int, *, right: bool) -> list[str]:
    total = 2 * number + (3 if right else 4)
    return ["Step 1: We add the numbers.", f"Step 2: The answer is \\boxed{{{total}}}."]


def row(layout: str, number: int, *, right: bool) -> dict[str, Any]:
    """A solution in one of the layouts, whose last step is right or wrong."""
    text, written = f"What is {number} + {number + 3}?", steps(number, right=right)
    match layout:
        case "processbench":
            return {"id": f"b-{number}", "problem": text, "steps": written, "label": -1 if right else 1}
        case "stepwise":
            return {"prompt": text, "completions": written, "labels": [True, right]}
        case "prm800k":
            process = "\n".join(f"{step} {MARK}" for step in written)
            return {"question": text, "process": process, "labels": [1, 1 if right else -1]}
        case _:
            joined = f"{text} " + "\n".join(f"{step} {MARK}" for step in written)
            first, _, rest = joined.partition(MARK)
            return {"input": joined, "label": first + "+" + rest.replace(MARK, "+" if right else "-")}


def config(path: Path, *overrides: str) -> RunConfig:
    base = {**sums.config(path), "problems": {"source": str(path), "preset": "labelled"}}
    del base["roles"]["policy"], base["roles"]["completer"]
    return load_config(None, overrides, model=RunConfig, base=base)


@pytest.mark.parametrize("layout", ["processbench", "stepwise", "prm800k", "math-shepherd"])
async def test_labels_of_any_layout_become_chats(layout: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "labelled.jsonl", tmp_path / "run"
    given = [row(layout, number, right=number % 2 == 0) for number in range(4)]
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in given))
    result = await run_pipeline(config(path), folder, until="chats")
    assert list(result.summaries) == ["problems", "solutions", "labels", "rationales", "consensus", "chats"]
    assert set(sums.calls) == {"teacher"}
    reader = RunReader(folder)
    assert [one.first_error for one in reader.rows("labels")] == [-1, 1, -1, 1]
    assert {(one.method, one.threshold) for one in reader.rows("labels")} == {("given", None)}
    assert [one.first_error for one in reader.rows("consensus")] == [-1, 1, -1, 1]
    assert len(list(reader.rows("chats"))) == 4
    origin = origin_of(folder)
    assert (origin.label_rule, origin.estimator, list(origin.roles)) == (None, None, ["teacher"])
    assert origin_rows(origin)["label rule"] == "none: labels came with the solutions"


async def test_a_label_that_the_teacher_contradicts_is_dropped(tmp_path: Path) -> None:
    path, folder = tmp_path / "labelled.jsonl", tmp_path / "run"
    rows = [row("stepwise", 1, right=True), {**row("stepwise", 2, right=True), "labels": [True, False]}]
    rows.append({**row("stepwise", 3, right=True), "labels": [None, True]})
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    result = await run_pipeline(config(path), folder, until="chats")
    assert result.summaries["consensus"].reasons == {"disagree": 1, "label_unknown": 1}
    (_, _, unknown) = RunReader(folder).rows("labels")
    assert [step.reason for step in unknown.labels] == ["not_given", None]


async def test_solutions_of_one_problem_stay_and_repeated_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    rows = [row("stepwise", 1, right=True), row("stepwise", 1, right=False)]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    settings = config(path, "problems.near_duplicates=0.95")
    result = await run_pipeline(settings, tmp_path / "run", until="labels")
    assert result.summaries["labels"].rows == 2
    path.write_text("".join(json.dumps(one) + "\n" for one in [*rows, rows[0]]))
    with pytest.raises(DataError, match=r"already used at .*:1"):
        await run_pipeline(settings, tmp_path / "again", until="labels")


def test_the_plan_has_neither_policy_nor_completer(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text(json.dumps(row("processbench", 1, right=True)) + "\n")
    plan = plan_run(config(path), "chats", Assumptions())
    assert [one.stage for one in plan] == ["solutions", "labels", "rationales", "consensus", "chats"]
    assert [one.calls > 0 for one in plan] == [False, False, True, False, False]
    with pytest.raises(ConfigError, match="begins with labels has no stage 'montecarlo'"):
        plan_run(config(path), "montecarlo", Assumptions())
    path.write_text(json.dumps({"problem": "What is 1 + 1?"}) + "\n")
    with pytest.raises(DataError, match=r":1: this is no labelled solution"):
        plan_run(config(path), "chats", Assumptions())


async def test_stages_that_the_run_has_no_more_are_not_current(tmp_path: Path) -> None:
    """A sampled run with a verifier, then one that begins with labels and has none, in the same directory."""
    path, folder = tmp_path / "labelled.jsonl", tmp_path / "run"
    path.write_text("".join(json.dumps(row("stepwise", n, right=n % 2 == 0)) + "\n" for n in range(4)))
    sampled = load_config(
        None, model=RunConfig, base=sums.config(sums.write_problems(tmp_path / "problems.jsonl", 5))
    )
    await run_pipeline(sampled, folder, until="verifications")
    reader = RunReader(folder)
    scores, verdicts = list(reader.rows("montecarlo")), list(reader.rows("verifications"))
    assert scores and verdicts

    await run_pipeline(config(path, "roles.verifier=null"), folder, until="labels")
    known = [one.stage for one in reader.stages()]
    assert not {"montecarlo", "verifications"} & set(known) and "labels" in known
    for name in ("montecarlo", "verifications"):
        with pytest.raises(StoreError, match=f"no stage '{name}'"):
            list(reader.rows(name))
        assert not list((folder / "stages" / name).iterdir())
    assert "montecarlo" not in origin_rows(origin_of(folder))

    sums.calls.clear()
    await run_pipeline(sampled, folder, until="verifications")
    assert (list(reader.rows("montecarlo")), list(reader.rows("verifications"))) == (scores, verdicts)
    assert not sums.calls, "what was kept comes back with the options"
    assert not (folder / "repairs.jsonl").exists()
