"""A copy of a run directory that was made while the run went on is a run that can be continued.

Tools that copy folders to object storage and back see no moment of a run as it was: some files are old, some new, some
missing. Here every file of such a copy is, by chance, that of an interrupted run, that of the finished one, or not there.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest
import sums
from test_runs_soak import truth_of

from genprm.config import RunConfig, load_config
from genprm.errors import EngineUnavailable, RunIncomplete
from genprm.runs import run_pipeline
from genprm.store import RunReader


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path, Path]:
    """A config, its run when the teacher was lost half-way, and the same run when it was continued to its end."""
    folder = tmp_path_factory.mktemp("copied")
    sums.register()
    problems = sums.write_problems(folder / "problems.jsonl", 12)
    config = load_config(None, model=RunConfig, base=sums.config(problems))

    def fail(engine: str, problem: int) -> None:
        if engine == "teacher" and problem >= 5:
            sums.failing["teacher"] = EngineUnavailable("gone", retryable=True)

    sums.watching.append(fail)
    try:
        with pytest.raises((RunIncomplete, EngineUnavailable)):
            asyncio.run(run_pipeline(config, folder / "early", until="chats"))
    finally:
        sums.watching.remove(fail)
        sums.failing.clear()
    shutil.copytree(folder / "early", folder / "late")
    asyncio.run(run_pipeline(config, folder / "late", until="chats"))
    return config, folder / "early", folder / "late"


def files_of(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_the_interrupted_run_has_shards_that_the_finished_one_has_anew(
    runs: tuple[RunConfig, Path, Path],
) -> None:
    _, early, late = runs
    assert any(".1.rows." in path.name for path in files_of(late))
    assert any(path not in files_of(late) for path in files_of(early))
    assert (
        0
        < len(list(RunReader(early).rows("rationales", partial=True)))
        < len(list(RunReader(late).rows("rationales")))
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_of_several_moments_is_continued_to_the_same_rows(
    runs: tuple[RunConfig, Path, Path], tmp_path: Path, seed: int
) -> None:
    config, early, late = runs
    chance = random.Random(seed)
    for path in sorted(files_of(early) | files_of(late)):
        # What a run writes first is older than any copy.
        begun = path.name in ("run.json", "run.lock", "config.yaml")
        source = chance.choice([early, late] if begun else [early, late, None])
        if source is not None and (source / path).exists():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, tmp_path / path)
    asyncio.run(run_pipeline(config, tmp_path, until="chats"))
    assert truth_of(tmp_path) == truth_of(late)
