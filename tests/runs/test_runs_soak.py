"""Kills at random moments, and after each of them one damaged file: never a wrong row, and every repair is reported.

`GENPRM_SOAK_KILLS` says how many kills (40 unless given; 500 for a release), `GENPRM_SOAK_SEED` repeats a soak's choices.
The child is a whole scripted pipeline, sandbox included, as a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sums

from genprm.config import RunConfig, load_config
from genprm.errors import StoreError
from genprm.identity import costs_of
from genprm.runs import run_pipeline
from genprm.store import RunReader, StageStore
from genprm.store.names import shard_paths

KILLS = int(os.environ.get("GENPRM_SOAK_KILLS", "40"))
SEED = int(os.environ.get("GENPRM_SOAK_SEED", "0"))
STAGES = ("problems", "solutions", "montecarlo", "labels", "rationales", "consensus", "chats")
LONGEST = 120.0
Truth = dict[str, dict[str, int]]
"""By stage, how often each row occurs, as JSON without costs."""


def pipeline(problems: Path, folder: Path) -> None:
    """Run or resume the pipeline."""
    sums.register()
    config = load_config(None, model=RunConfig, base=sums.config(problems))
    asyncio.run(run_pipeline(config, folder, until="chats"))


def main() -> None:
    """PROBLEMS FOLDER: says `ready` when everything is imported, and runs the pipeline."""
    problems, folder = map(Path, sys.argv[1:])
    print("ready", flush=True)
    pipeline(problems, folder)


def start(problems: Path, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, __file__, str(problems), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def killed(process: subprocess.Popen[str], after: float) -> bool:
    """Kill the child after some time; False if it was done before. A child that fails by itself fails the test."""
    try:
        _, said = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=LONGEST)
        return True
    assert process.returncode == 0, said
    return False


def said_by(row: Any) -> str:
    return str(row.model_dump_json(exclude=costs_of(type(row))))


def truth_of(folder: Path) -> Truth:
    reader = RunReader(folder)
    found: Truth = {}
    for stage in STAGES:
        for row in reader.rows(stage):
            counts = found.setdefault(stage, {})
            counts[said_by(row)] = counts.get(said_by(row), 0) + 1
    return found


def assert_no_wrong_row(folder: Path, truth: Truth) -> None:
    """What a reader finds, whatever was killed or damaged, was made by an undisturbed run too, and no oftener."""
    for stage in STAGES:
        try:
            rows = [said_by(row) for row in RunReader(folder).rows(stage, partial=True)]
        except StoreError:
            continue  # the stage was not begun, or its record is damaged: no rows are no wrong rows
        for row in rows:
            assert rows.count(row) <= truth[stage].get(row, 0), (stage, row)


class Vandal:
    """Damages one file after the other, and knows which damages have to be reported."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder = folder
        self._chance = chance
        self._read = 0
        self.unreported: set[tuple[str, str]] = set()
        """By stage and name, whole shards that were damaged since they were last looked at."""

    def damage(self) -> str:
        """Damage a random file and say what was done."""
        files = [path for path in sorted(self._folder.rglob("*")) if path.is_file() and self._fair(path)]
        if not files:
            return "nothing is there yet"
        path = self._chance.choice(files)
        shard = self._shard_in_use(path)
        before = path.read_bytes()
        harm: Callable[[Path, bytes, list[Path]], None] = self._chance.choice(
            [self._cut, self._flip, self._grow, self._swap, self._delete]
        )
        harm(path, before, files)
        gone = not path.exists()
        if gone and path.suffix == ".json":
            # A shard without its meta file was never finished, whatever had happened to it before.
            self.unreported.discard((path.parent.name, path.stem))
        elif shard is not None and (gone or path.read_bytes() != before):
            self.unreported.add(shard)
        return f"{harm.__name__} {path.relative_to(self._folder)}"

    def heard(self, log: Path) -> None:
        """Read what was reported since the last time."""
        if log.exists():
            lines = log.read_text().splitlines()
            reports = [json.loads(line)["damage"] for line in lines[self._read :]]
            self._read = len(lines)
            self.unreported = {
                (stage, stem)
                for stage, stem in self.unreported
                if not any(f"stage '{stage}', shard {int(stem[:6])}:" in report for report in reports)
            }

    def _fair(self, path: Path) -> bool:
        return path.name != "repairs.jsonl"  # the log that the reports are read from

    def _shard_in_use(self, path: Path) -> tuple[str, str] | None:
        """The shard that a file belongs to, if that shard is whole and a run would take it over."""
        if path.parent.parent.name != "stages" or path.name == "stage.json" or path.name.startswith("."):
            return None
        stem, stage = path.name.partition(".")[0], path.parent.name
        store = StageStore(self._folder, stage, sums_row_type(self._folder, stage))
        if not (path.parent / f"{stem}.json").exists():
            return None
        meta, harm = store._check(stem)
        if meta is None or harm:
            return None
        used = set(shard_paths(path.parent, meta))
        return (stage, stem) if path in used else None

    def _cut(self, path: Path, data: bytes, _: list[Path]) -> None:
        path.write_bytes(data[: self._chance.randrange(len(data))] if data else b"")

    def _flip(self, path: Path, data: bytes, _: list[Path]) -> None:
        if data:
            changed = bytearray(data)
            changed[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
            path.write_bytes(bytes(changed))

    def _grow(self, path: Path, data: bytes, _: list[Path]) -> None:
        path.write_bytes(data + self._chance.randbytes(self._chance.randrange(1, 40)))

    def _swap(self, path: Path, _: bytes, files: list[Path]) -> None:
        path.write_bytes(self._chance.choice(files).read_bytes())

    def _delete(self, path: Path, _: bytes, __: list[Path]) -> None:
        path.unlink()


def sums_row_type(folder: Path, stage: str) -> Any:
    from genprm import records

    types = {
        "problems": records.Problem,
        "solutions": records.Solution,
        "montecarlo": records.SolutionScores,
        "labels": records.SolutionLabels,
        "rationales": records.Rationale,
        "consensus": records.Consensus,
        "chats": records.TrainingSample,
    }
    return types[stage]


@pytest.mark.slow
def test_kills_and_damages_never_make_a_wrong_row(tmp_path: Path) -> None:
    problems = sums.write_problems(tmp_path / "problems.jsonl", 10)
    began = time.monotonic()
    assert not killed(start(problems, tmp_path / "undisturbed"), LONGEST)
    whole = time.monotonic() - began
    truth = truth_of(tmp_path / "undisturbed")
    chance = random.Random(SEED)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        folder = tmp_path / f"run-{rounds}"
        vandal = Vandal(folder, chance)
        done: list[str] = [f"seed {SEED}, kill {kills}"]
        while kills < KILLS and killed(start(problems, folder), chance.uniform(0, whole)):
            kills += 1
            assert_no_wrong_row(folder, truth)
            vandal.heard(folder / "repairs.jsonl")
            done.append(vandal.damage())
            assert_no_wrong_row(folder, truth)
        if kills >= KILLS:
            assert not killed(start(problems, folder), LONGEST)
        vandal.heard(folder / "repairs.jsonl")
        assert not vandal.unreported, done
        assert truth_of(folder) == truth, done
        assert not list(folder.rglob("*.tmp")), done
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
