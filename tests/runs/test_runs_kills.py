"""A driver that is killed ten times, at points spread over all stages of synthesis, ends with the rows of one that is
not.

The child kills itself with SIGKILL at the instant that it was given: while an engine is asked, or before a file of a
shard is begun or put in place. An audit hook of the interpreter sees the files, so nothing of the library is replaced.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sums
from test_runs_soak import STAGES, truth_of

from genprm.config import RunConfig, load_config
from genprm.runs import run_pipeline

KILLS, SHARD_SIZE = 10, 2
PROBLEMS = SHARD_SIZE * (2 * KILLS + 4)
SEED = int(os.environ.get("GENPRM_SOAK_SEED", "0"))
ASKS = {"solutions": "policy", "montecarlo": "completer", "rationales": "teacher"}
LONGEST = 120.0


class Death:
    """Kills this process at the `count`-th event of one kind, in a stage's shards from `shard` on.

    Events are requests to the stage's engine (`asks`), and files of shards that are begun or put in place (`writes`).
    """

    def __init__(self, stage: str, kind: str, shard: str, count: str) -> None:
        self._stage, self._kind, self._shard, self._left = stage, kind, int(shard), int(count)

    def comes(self) -> None:
        """From now on events are counted."""
        sums.watching.append(self._asked)
        sys.addaudithook(self._opened_or_moved)

    def _asked(self, engine: str, problem: int) -> None:
        self._note(
            next(stage for stage, name in ASKS.items() if name == engine), "asks", problem // SHARD_SIZE
        )

    def _opened_or_moved(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename"):
            return
        path = args[0] if event == "open" else args[1]
        if isinstance(path, str | Path) and Path(path).parent.parent.name == "stages":
            name, number = Path(path).name, Path(path).name.lstrip(".")[:6]
            if number.isdigit() and (event == "os.rename" or name.endswith(".tmp")):
                self._note(Path(path).parent.name, "writes", int(number))

    def _note(self, stage: str, kind: str, shard: int) -> None:
        if (stage, kind) == (self._stage, self._kind) and shard >= self._shard:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """PROBLEMS FOLDER [STAGE KIND SHARD COUNT] [KEY=VALUE ...]: run or resume the pipeline, and die at that point."""
    problems, folder, *rest = sys.argv[1:]
    options = [one for one in rest if "=" in one]
    point = [one for one in rest if "=" not in one]
    sums.register()
    if point:
        Death(*point).comes()
    options.append(f"store.shard_size={SHARD_SIZE}")
    config = load_config(None, options, model=RunConfig, base=sums.config(Path(problems)))
    asyncio.run(run_pipeline(config, Path(folder), until="chats"))


def run(problems: Path, folder: Path, *point: str, options: Sequence[str] = ()) -> int:
    """The exit status of a child. Only the driver is killed: its boxes have to notice."""
    done = subprocess.run(
        [sys.executable, __file__, str(problems), str(folder), *point, *options],
        stderr=subprocess.PIPE,
        text=True,
        timeout=LONGEST,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def points(chance: random.Random) -> list[tuple[str, str, str, str]]:
    """Every stage once and some twice, in any order; later kills in later shards, so that each finds work."""
    stages = [*STAGES, *chance.sample(STAGES, KILLS - len(STAGES))]
    chance.shuffle(stages)
    found = []
    for number, stage in enumerate(stages):
        kind = chance.choice(["asks", "writes"]) if stage in ASKS else "writes"
        # A shard has three files, each begun and put in place, and is asked about at least eight times.
        count = chance.randint(1, 8 if kind == "asks" else 6)
        found.append((stage, kind, str(2 * number), str(count)))
    return found


@pytest.mark.slow
def test_ten_kills_over_all_stages_leave_the_same_rows(tmp_path: Path) -> None:
    problems = sums.write_problems(tmp_path / "problems.jsonl", PROBLEMS)
    assert run(problems, tmp_path / "undisturbed") == 0
    folder = tmp_path / "killed"
    planned = points(random.Random(SEED))
    for point in planned:
        assert run(problems, folder, *point) == -signal.SIGKILL, point
    assert run(problems, folder) == 0
    assert truth_of(folder) == truth_of(tmp_path / "undisturbed"), planned
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "repairs.jsonl").exists()  # a kill damages nothing


if __name__ == "__main__":
    main()
