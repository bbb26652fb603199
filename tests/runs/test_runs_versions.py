"""Runs of another version of genprm: what an earlier one did not write is no damage, and a later one's is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sums
import yaml
from typer.testing import CliRunner, Result

from genprm.cli.main import app
from genprm.errors import EngineUnavailable, StoreError
from genprm.identity import content_key
from genprm.store import RunReader

STAGES = ("problems", "solutions", "montecarlo", "labels", "rationales", "consensus", "chats")


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    yield
    sums.failing.clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(sums.config(sums.write_problems(tmp_path / "problems.jsonl", 6))))
    return path


def run(file: Path, *more: str) -> Result:
    command = ["run", str(file), "-o", str(file.parent / "run"), "--until", "chats", *more]
    return CliRunner().invoke(app, command)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> int:
    """Change every shard's meta and seal it, as another version would have written it; returns how many."""
    paths = list(folder.glob("stages/*/*-*.json"))
    for path in paths:
        fields = json.loads(path.read_text())
        del fields["seal"]
        change(fields)
        path.write_text(json.dumps({**fields, "seal": content_key(fields)}))
    return len(paths)


def without_the_uncounted(fields: dict[str, Any]) -> None:
    for usage in (fields["usage"], *(lost["usage"] for lost in fields["pending"])):
        del usage["uncounted"]


def test_a_run_of_an_earlier_version_is_continued(file: Path) -> None:
    """`Usage.uncounted` was added when there were runs already."""
    folder = file.parent / "run"
    assert run(file).exit_code == 0
    rows = {stage: list(RunReader(folder).rows(stage)) for stage in STAGES}
    assert rewrite(folder, without_the_uncounted) > len(STAGES)
    before = sums.calls.copy()

    assert {stage: list(RunReader(folder).rows(stage)) for stage in STAGES} == rows
    planned = run(file, "--dry-run")
    assert planned.exit_code == 0, planned.output
    done = run(file)
    assert done.exit_code == 0, done.output
    assert sums.calls == before, "nothing is asked again"
    assert not (folder / "repairs.jsonl").exists()


def test_pending_problems_of_an_earlier_version_are_tried_again_alone(file: Path) -> None:
    def breaks(name: str, number: int) -> None:
        broken = name == "teacher" and number == 3
        sums.failing.pop("teacher", None)
        if broken:
            sums.failing["teacher"] = EngineUnavailable("down", retryable=True)

    folder = file.parent / "run"
    sums.watching.append(breaks)
    try:
        assert run(file).exit_code == 1
    finally:
        sums.watching.remove(breaks)
        sums.failing.clear()
    rewrite(folder, without_the_uncounted)
    before = sums.calls.copy()
    done = run(file)
    assert done.exit_code == 0, done.output
    assert set(sums.calls - before) == {"teacher"}
    assert not (folder / "repairs.jsonl").exists()


def test_a_run_of_a_later_version_is_named_and_stays(file: Path) -> None:
    folder = file.parent / "run"
    assert run(file).exit_code == 0
    rewrite(folder, lambda fields: fields["usage"].update(watts=3))
    before = {path: path.read_bytes() for path in folder.glob("stages/*/*-*")}
    for done in (
        run(file),
        run(file, "--dry-run"),
        CliRunner().invoke(app, ["export", str(folder), "labels"]),
    ):
        assert isinstance(done.exception, StoreError)
        assert "written by another version of genprm: usage.watts" in done.exception.message
    assert {path: path.read_bytes() for path in folder.glob("stages/*/*-*")} == before
    assert not (folder / "repairs.jsonl").exists()
