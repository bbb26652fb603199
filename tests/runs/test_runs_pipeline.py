"""A whole run from a config, with scripted engines: what it makes, what it makes again, and how it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sums
import yaml
from click.testing import Result
from faulty_chain import Recorder
from typer.testing import CliRunner

from genprm.cli.main import app
from genprm.config import RunConfig, load_config
from genprm.errors import (
    ConfigError,
    DataError,
    EngineRequestError,
    EngineTimeout,
    RunIncomplete,
    StoreError,
)
from genprm.identity import rows_digest
from genprm.runs import RunResult, chain_until, run_pipeline, stop_if_empty
from genprm.store import RunReader, StageSummary
from genprm.view.data_card import origin_of

STAGES = ("solutions", "montecarlo", "labels", "rationales", "consensus", "chats", "verifications")


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    sums.calls.clear()
    yield
    sums.failing.clear()


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return sums.write_problems(tmp_path / "problems.jsonl", 5)


def config(problems: Path, *overrides: str) -> RunConfig:
    return load_config(None, overrides, model=RunConfig, base=sums.config(problems))


async def run(
    problems: Path,
    folder: Path,
    *overrides: str,
    until: str = "verifications",
    progress: Recorder | None = None,
) -> RunResult:
    return await run_pipeline(config(problems, *overrides), folder, until=until, progress=progress)


def digests(folder: Path) -> dict[str, str]:
    reader = RunReader(folder)
    return {stage: rows_digest(list(reader.rows(stage))) for stage in STAGES}


async def test_a_run_makes_every_stage_and_can_be_repeated_from_its_own_config(
    tmp_path: Path, problems: Path
) -> None:
    result = await run(problems, tmp_path / "run")
    assert tuple(result.summaries) == ("problems", *STAGES)
    assert {summary.rows for summary in result.summaries.values()} == {5, 20}
    assert all(summary.complete for summary in result.summaries.values())
    assert (result.trained, result.repairs) == (None, [])
    facts = RunReader(tmp_path / "run").facts()
    assert facts["versions"]["genprm"]
    assert facts["seed"] == 0
    verdicts = list(RunReader(tmp_path / "run").rows("verifications"))
    truth = {row.id: row.correct for row in RunReader(tmp_path / "run").rows("solutions")}
    assert {row.item_id: row.first_error == -1 for row in verdicts} == truth
    sums.calls.clear()
    again = load_config(tmp_path / "run" / "config.yaml", model=RunConfig)
    await run_pipeline(again, tmp_path / "run", until="verifications")
    assert not sums.calls


async def test_the_threshold_of_label_is_that_of_the_rule_that_is_set(
    tmp_path: Path, problems: Path
) -> None:
    await run(problems, tmp_path / "run", until="montecarlo")

    def labelled(*flags: str) -> Result:
        return CliRunner().invoke(app, ["label", str(tmp_path / "run"), *flags])

    for rule in (("--method", "difference"), ("-s", "method=difference")):
        strict, loose = (labelled(*rule, "--threshold", value) for value in ("1", "-0.5"))
        assert strict.exit_code == loose.exit_code == 0
        assert ": 0 right, 40 wrong" in strict.output and ": 30 right, 10 wrong" in loose.output
    refused = labelled("-s", "method=hard", "--threshold", "0.5").exception
    assert isinstance(refused, ConfigError) and "'hard' has no threshold" in str(refused)


@pytest.mark.parametrize(
    "overrides",
    [
        ["store.format=parquet"],
        ["store.shard_size=1", "store.shards_in_flight=1"],
        ["store.shard_size=64"],
        ["concurrency=1"],
        ["sandbox.workers=2"],
    ],
)
async def test_how_a_run_is_cut_and_written_changes_no_row(
    tmp_path: Path, problems: Path, overrides: list[str]
) -> None:
    await run(problems, tmp_path / "a")
    await run(problems, tmp_path / "b", *overrides)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


async def test_stages_behind_until_are_not_complete_with_other_options(
    tmp_path: Path, problems: Path
) -> None:
    folder = tmp_path / "run"
    await run(problems, folder)
    before = digests(folder)
    for until in ("solutions", "labels"):
        await run(problems, folder, until=until)
        assert digests(folder) == before, "unchanged options leave later stages as they are"
    await run(problems, folder, "label.method=hard", until="labels")
    reader = RunReader(folder)
    states = {one.stage: one.complete for one in reader.stages()}
    assert [stage for stage in STAGES if not states[stage]] == ["consensus", "chats"]
    with pytest.raises(StoreError, match=r"'chats' is not complete in .*: 0 of at most 3 shards") as caught:
        list(reader.rows("chats"))
    assert "--until chats" in caught.value.hint
    assert list(reader.rows("chats", partial=True)) == []
    assert {one.stage for one in origin_of(folder).stages} == {"problems", *STAGES[:4]}, "no old counts"
    sums.calls.clear()
    await run(problems, folder)
    assert digests(folder) == before and not sums.calls, "finished shards were kept"


async def test_stages_behind_until_are_not_complete_with_other_problems(
    tmp_path: Path, problems: Path
) -> None:
    folder = tmp_path / "run"
    await run(problems, folder)
    before = digests(folder)
    for limit in (3, 5):
        await run(problems, folder, f"problems.limit={limit}", until="solutions")
        with pytest.raises(StoreError, match="'chats' is not complete"):
            list(RunReader(folder).rows("chats"))
    sums.calls.clear()
    await run(problems, folder)
    assert digests(folder) == before and not sums.calls


async def test_a_damaged_summary_behind_until_is_written_anew(tmp_path: Path, problems: Path) -> None:
    folder = tmp_path / "run"
    await run(problems, folder)
    (folder / "stages" / "chats" / "stage.json").write_text("{")
    await run(problems, folder, until="labels")
    with pytest.raises(StoreError, match=r"'chats' is not complete in .*: 3 shards are finished"):
        list(RunReader(folder).rows("chats"))


async def test_a_changed_label_rule_calls_no_engine(tmp_path: Path, problems: Path) -> None:
    await run(problems, tmp_path / "run")
    before = digests(tmp_path / "run")
    sums.calls.clear()
    result = await run(problems, tmp_path / "run", "label.method=hard")
    assert not sums.calls
    assert result.summaries["labels"].rows == 20
    assert {name for name, digest in digests(tmp_path / "run").items() if digest != before[name]} >= {
        "labels"
    }
    assert {row.method for row in RunReader(tmp_path / "run").rows("labels")} == {"hard"}


@pytest.mark.parametrize(
    ("stage", "engine"),
    [("solutions", "policy"), ("montecarlo", "completer"), ("rationales", "teacher"), ("chats", None)],
)
async def test_repairing_one_shard_calls_its_own_engine_alone(
    tmp_path: Path, problems: Path, stage: str, engine: str | None
) -> None:
    """Rows that say the same are the same, whatever time they took the second time."""
    await run(problems, tmp_path / "run")
    before, whole = digests(tmp_path / "run"), Counter(sums.calls)
    sums.calls.clear()
    next((tmp_path / "run" / "stages" / stage).glob("000001-*.rows.jsonl")).unlink()
    told = Recorder()
    result = await run(problems, tmp_path / "run", progress=told)
    assert digests(tmp_path / "run") == before
    assert set(sums.calls) == ({engine} if engine else set())
    if engine:
        assert 0 < sums.calls[engine] < whole[engine]
    assert result.repairs == told.notes
    assert [f"stage '{stage}', shard 1" in note for note in told.notes] == [True]


async def test_completions_are_kept_if_a_role_asks_for_it(tmp_path: Path, problems: Path) -> None:
    kept = "roles.policy.cache=true"
    await run(problems, tmp_path / "run", kept)
    sums.calls.clear()
    for path in (tmp_path / "run" / "stages" / "solutions").glob("*-*"):
        path.unlink()
    await run(problems, tmp_path / "run", kept)
    assert sums.calls["policy"] == 0
    assert list((tmp_path / "run" / "completions").iterdir())


@pytest.mark.parametrize("engine", ["policy", "completer", "teacher", "verifier"])
@pytest.mark.parametrize("fault", [EngineTimeout("too slow"), EngineRequestError("refused")], ids=repr)
async def test_an_engine_that_fails_leaves_problems_pending_until_it_works(
    tmp_path: Path, problems: Path, engine: str, fault: Any
) -> None:
    sums.failing[engine] = fault
    with pytest.raises(RunIncomplete, match="5 problems are pending") as caught:
        await run(problems, tmp_path / "run")
    assert str(fault) in caught.value.message
    sums.failing.clear()
    await run(problems, tmp_path / "run")
    await run(problems, tmp_path / "undisturbed")
    assert digests(tmp_path / "run") == digests(tmp_path / "undisturbed")


@pytest.mark.parametrize("estimator", ["sequential", "binary"])
async def test_a_run_that_is_cut_off_between_batches_resumes_to_the_same_rows(
    tmp_path: Path, problems: Path, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tripping(Counter[str]):
        def __setitem__(self, engine: str, count: int) -> None:
            super().__setitem__(engine, count)
            if (engine, count) == ("completer", 70):
                sums.failing[engine] = EngineTimeout("too slow")

    options = [f"montecarlo.estimator={estimator}", "montecarlo.batch=2", "label.method=posterior"]
    monkeypatch.setattr(sums, "calls", Tripping())
    with pytest.raises(RunIncomplete):
        await run(problems, tmp_path / "run", *options)
    sums.failing.clear()
    await run(problems, tmp_path / "run", *options)
    monkeypatch.undo()
    await run(problems, tmp_path / "undisturbed", *options)
    assert digests(tmp_path / "run") == digests(tmp_path / "undisturbed")
    rows = list(RunReader(tmp_path / "run").rows("montecarlo"))
    assert {row.estimator for row in rows} == {estimator}


async def test_an_engine_that_does_not_answer_its_check_ends_the_run(
    tmp_path: Path, problems: Path
) -> None:
    with pytest.raises(ConfigError, match="unknown engine kind") as caught:
        await run(problems, tmp_path / "run", "roles.teacher.kind=sums-teach")
    assert "sums-teacher" in caught.value.hint
    assert not sums.calls, "what decides a stage is known before the first call"


async def test_problems_without_references_end_with_the_remedy(tmp_path: Path, problems: Path) -> None:
    with pytest.raises(DataError, match="the stage 'solutions' kept nothing of 5 problems") as caught:
        await run(problems, tmp_path / "run", "problems.columns={id: n, text: q}")
    assert "no_reference" in caught.value.message
    assert "problems.columns.answer" in caught.value.hint


def summary(stage: str, *, rows: int, problems: int = 3, **reasons: int) -> StageSummary:
    return StageSummary(
        stage=stage, row_type="Solution", recipe="r", problems=problems, rows=rows, reasons=reasons
    )


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("no_reference", "problems.columns.answer"),
        ("sample_unfinished", "solutions.max_tokens"),
        ("sample_no_answer", "solutions.profile"),
        ("sample_too_few_steps", "solutions.min_steps"),
        ("easy", "solutions.require_both=false"),
        ("hard", "solutions.require_both=false"),
        ("start_zero", "montecarlo.k_start"),
        ("disagree", "label rule"),
        ("engine_failed", "dropped rows of the stage 'montecarlo'"),
    ],
)
def test_a_stage_that_keeps_nothing_names_the_commonest_reason(reason: str, hint: str) -> None:
    chain = chain_until(RunConfig(), "montecarlo")
    found = {
        "solutions": summary("solutions", rows=2),
        "montecarlo": summary("montecarlo", rows=0, **{reason: 5, "other": 4}),
    }
    with pytest.raises(
        DataError, match=rf"'montecarlo' kept nothing of 3 problems.*{reason} \(5\)"
    ) as caught:
        stop_if_empty(chain, found)
    assert hint in caught.value.hint


def test_stages_that_kept_something_stop_nothing() -> None:
    chain = chain_until(RunConfig(), "montecarlo")
    stop_if_empty(chain, {name: summary(name, rows=1, hard=2) for name in ("solutions", "montecarlo")})


def test_no_problems_are_named_as_such() -> None:
    chain = chain_until(RunConfig(), "solutions")
    with pytest.raises(DataError, match="there are no problems") as caught:
        stop_if_empty(chain, {"solutions": summary("solutions", rows=0, problems=0)})
    assert "problems.limit" in caught.value.hint


def test_hints_name_keys_that_exist() -> None:
    from genprm.runs.pipeline import _HINTS

    for hint in _HINTS.values():
        for word in hint.replace(",", " ").replace(":", " ").split():
            section, dot, key = word.strip(".").partition(".")
            if dot and section in RunConfig.model_fields:
                name = key.partition("=")[0].partition(".")[0]
                assert name in type(getattr(RunConfig(), section)).model_fields, word


async def test_the_config_in_a_run_directory_is_the_resolved_one(tmp_path: Path, problems: Path) -> None:
    await run(problems, tmp_path / "run", "verify.votes=3", until="solutions")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written == config(problems, "verify.votes=3").model_dump(mode="json")
