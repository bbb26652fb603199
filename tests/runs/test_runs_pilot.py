"""A pilot predicts what a run costs, and is its beginning."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sums
import yaml
from click.testing import Result
from typer.testing import CliRunner

from genprm.cli.main import app
from genprm.config import RunConfig, load_config
from genprm.config.models import LARGEST
from genprm.errors import ConfigError, EngineUnavailable, GenPRMError, StoreError
from genprm.identity import rows_digest
from genprm.runs import ProblemSource, open_store, read_prediction, run_pilot, run_pipeline
from genprm.runs.progress import Silent
from genprm.store import RunReader


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    sums.calls.clear()
    yield


def config(problems: Path, *overrides: str) -> RunConfig:
    return load_config(None, overrides, model=RunConfig, base=sums.config(problems))


async def test_a_run_costs_what_its_pilot_predicted(tmp_path: Path) -> None:
    """The completer's Pass@1, and with it a problem's cost, repeats every three problems; a pilot of six has them all."""
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 18), tmp_path / "run"
    found = await run_pilot(config(problems), folder, 5, until="chats")
    assert (found.problems, found.pilot) == (18, 6), "in whole shards of two"
    assert read_prediction(folder) == found
    asked = sums.calls.copy()
    result = await run_pipeline(config(problems), folder, until="chats")
    assert {name: sums.calls[name] for name in asked} == {name: 3 * count for name, count in asked.items()}
    predicted = {one.stage: one for one in found.stages}
    assert predicted.keys() == result.summaries.keys() - {"problems"}
    for stage, one in predicted.items():
        actual = result.summaries[stage]
        assert one.recipe == actual.recipe
        assert one.requests == actual.usage.requests and one.rows == actual.rows
        # Numbers have more digits later on.
        assert one.completion_tokens == pytest.approx(actual.usage.completion_tokens, rel=0.05)
        assert one.prompt_tokens == pytest.approx(actual.usage.prompt_tokens, rel=0.05)
        assert one.tokens_low is not None and one.tokens_high is not None
        assert one.tokens_low <= one.completion_tokens <= one.tokens_high


async def test_the_runs_rows_are_those_without_a_pilot(tmp_path: Path) -> None:
    problems = sums.write_problems(tmp_path / "problems.jsonl", 7)
    await run_pilot(config(problems), tmp_path / "with", 1, until="labels")
    for folder in ("with", "without"):
        await run_pipeline(config(problems), tmp_path / folder, until="labels")
    for stage in ("problems", "solutions", "montecarlo", "labels"):
        one, other = (list(RunReader(tmp_path / name).rows(stage)) for name in ("with", "without"))
        assert rows_digest(one) == rows_digest(other), stage


async def test_a_pilot_that_ends_early_leaves_the_whole_runs_config(tmp_path: Path) -> None:
    """Nor is there any moment at which a kill could leave a shorter one."""
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 6), tmp_path / "run"
    found = []

    def watch(name: str, number: int) -> None:
        found.append(load_config(folder / "config.yaml", model=RunConfig).problems.limit)

    sums.watching.append(watch)
    sums.failing["teacher"] = EngineUnavailable("it is down")
    try:
        with pytest.raises(GenPRMError):
            await run_pilot(config(problems), folder, 2, until="chats")
    finally:
        sums.watching.clear()
        sums.failing.clear()
    assert found and set(found) == {None}
    whole = load_config(folder / "config.yaml", model=RunConfig)
    assert whole == config(problems)
    assert (await run_pipeline(whole, folder, until="chats")).summaries["problems"].rows == 6


async def test_the_whole_run_waits_for_its_pilot(tmp_path: Path) -> None:
    """They would each write totals of their own problems."""
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 6), tmp_path / "run"
    refused = []

    def watch(name: str, number: int) -> None:
        with (
            pytest.raises(StoreError, match="or as a pilot") as caught,
            open_store(folder, settings, Silent()),
        ):
            pass
        refused.append(caught)

    settings = config(problems)
    sums.watching.append(watch)
    try:
        await run_pilot(settings, folder, 2, until="solutions")
    finally:
        sums.watching.clear()
    assert refused


async def test_a_longer_run_needs_no_pilot(tmp_path: Path) -> None:
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 5), tmp_path / "run"
    await run_pipeline(config(problems), folder, until="solutions")
    with pytest.raises(ConfigError, match="a run of 5 problems already, more than the pilot's 4"):
        await run_pilot(config(problems), folder, 3, until="solutions")
    assert (await run_pilot(config(problems), folder, 6, until="solutions")).pilot == 5
    (folder / "plan.json").write_text("{")
    assert read_prediction(folder) is None


async def test_a_longer_run_that_was_interrupted_needs_no_pilot(tmp_path: Path) -> None:
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 8), tmp_path / "run"
    settings = config(problems, "store.shards_in_flight=1")

    def stop(_: str, number: int) -> None:
        if number > 5:
            raise LookupError

    sums.watching.append(stop)
    try:
        with pytest.raises(LookupError):
            await run_pipeline(settings, folder, until="solutions")
    finally:
        sums.watching.clear()
    before = {path.name for path in (folder / "stages" / "solutions").iterdir()}
    with pytest.raises(ConfigError, match=r"a run of [68] problems already, more than the pilot's 4"):
        await run_pilot(settings, folder, 3, until="solutions")
    assert {path.name for path in (folder / "stages" / "solutions").iterdir()} == before
    assert (await run_pilot(settings, folder, 8, until="solutions")).pilot == 8


async def test_the_largest_numbers_are_numbers_and_larger_ones_a_mistake(tmp_path: Path) -> None:
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 3), tmp_path / "run"
    largest = ("problems.limit", "store.shard_size", "store.shards_in_flight", "concurrency")
    settings = config(problems, *(f"{key}={LARGEST}" for key in largest))
    made = await run_pipeline(settings, folder, until="montecarlo")
    assert made.summaries["problems"].rows == 3
    for many in (0, -1, LARGEST + 1, 2**70):
        with pytest.raises(ConfigError, match=f"a pilot cannot be {many} problems"):
            await run_pilot(config(problems), tmp_path / "pilot", many, until="solutions")
    assert not (tmp_path / "pilot").exists()


def test_the_command_predicts_and_later_compares(tmp_path: Path) -> None:
    problems = sums.write_problems(tmp_path / "problems.jsonl", 6)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sums.config(problems)))

    def genprm(*more: str) -> Result:
        where = ["-o", str(tmp_path / "run"), "--until", "labels"]
        return CliRunner().invoke(app, ["run", str(tmp_path / "config.yaml"), *more, *where])

    refused = genprm("--pilot", "2")
    assert isinstance(refused.exception, ConfigError) and "together" in refused.exception.hint
    pilot = genprm("--dry-run", "--pilot", "2")
    assert pilot.exit_code == 0 and "6 problems, predicted from 2" in pilot.stdout
    assert "Predicted from 2 problems, and actual" in genprm().stdout
    assert "Predicted" not in genprm("problems.limit=4").stdout, "another size"
    again = genprm("seed=1").stdout
    assert "labels" in again and "Predicted" not in again, "other options"


async def test_a_pipe_is_read_once_and_a_run_may_ask_twice(tmp_path: Path) -> None:
    """A second pass, for a problem that was lost at first, finds the same problems."""
    file, pipe = sums.write_problems(tmp_path / "problems.jsonl", 6), tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed() -> None:
        pipe.write_text(file.read_text())

    feeding = threading.Thread(target=feed)
    feeding.start()
    source = ProblemSource(config(pipe).problems, 0)
    assert not source.lasts
    first = list(source)
    feeding.join()
    assert list(source) == first
    assert [row.text for row in first] == [row.text for row in ProblemSource(config(file).problems, 0)]
    with pytest.raises(ConfigError, match="a pilot reads its problems twice"):
        await run_pilot(config(pipe), tmp_path / "run", 2, until="labels")
