"""A chain of four stages that notes every problem it works on, and fails as a plan says; also run as a program.

    first -> left, right (both of first) -> last (of all three)

Rows say what they were made of, so that a wrong, missing or stale row upstream shows in every row below it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from genprm.config import RunConfig
from genprm.errors import EngineUnavailable
from genprm.identity import Decides, content_key
from genprm.records import Dropped, Lost, Problem, Solution, StageOutput, Usage
from genprm.runs import Chain, Executor, LocalExecutor, Progress, Resources, Shard
from genprm.store import Mirror, RunReader, RunStore, StageSummary

STAGES = {"first": (), "left": ("first",), "right": ("first",), "last": ("first", "left", "right")}
Plan = dict[str, list[str]]
"""By `STAGE/PROBLEM`: what happens at the first, second, ... attempt: `ok`, `lost`, `lasting`, `raise` or `kill`."""


@dataclass(frozen=True)
class Notes:
    """A folder beside the run: which problems were worked on, by whom, and what is to fail."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, plan: Plan | None = None, pause: float = 0.0) -> Notes:
        folder.mkdir(parents=True, exist_ok=True)
        notes = cls(folder)
        notes.plan(plan or {}, pause)
        return notes

    def plan(self, plan: Plan, pause: float = 0.0) -> None:
        """From now on this fails."""
        (self.folder / "plan.json").write_text(json.dumps({"plan": plan, "pause": pause}))

    def planned(self) -> tuple[Plan, float]:
        found = json.loads((self.folder / "plan.json").read_text())
        return found["plan"], found["pause"]

    def answers(self, text: str) -> None:
        """From now on the stage `first` says this: an engine whose answers vary."""
        (self.folder / "answers").write_text(text)

    def add(self, stage: str, problem: str) -> int:
        """Note one attempt and return how many there were before."""
        path = self.folder / f"{stage}-{problem}"
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return path.read_text().count("\n") - 1

    def calls(self) -> Counter[tuple[str, str]]:
        """By stage and problem, how often it was worked on."""
        return Counter({key: len(pids) for key, pids in self.pids().items()})

    def pids(self) -> dict[tuple[str, str], list[int]]:
        """By stage and problem, the processes that worked on it."""
        found = {}
        for path in self.folder.glob("*-*"):
            stage, _, problem = path.name.partition("-")
            found[stage, problem] = [int(line) for line in path.read_text().splitlines()]
        return found


@dataclass(frozen=True)
class NotedStage:
    """A stage of the chain. `option` decides its rows; where its notes are does not."""

    name: str
    needs: tuple[str, ...]
    notes: Notes
    option: int = 0
    row_type: type[Solution] = Solution

    def decides(self) -> Decides:
        return Decides(options=self.option)

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Solution]:
        assert isinstance(resources, Resources)
        plan, pause = self.notes.planned()
        rows, dropped, lost = [], [], []
        for problem in shard.problems:
            attempt = self.notes.add(self.name, problem.id)
            await asyncio.sleep(pause)
            match (plan.get(f"{self.name}/{problem.id}", []) + ["ok"] * (attempt + 1))[attempt]:
                case "ok":
                    self._make(shard, problem, rows, dropped)
                case "raise":
                    raise EngineUnavailable("the whole stage fails")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case kind:
                    detail = f"attempt {attempt} at {problem.id}"
                    lost.append(
                        Lost(
                            problem_id=problem.id,
                            reason="EngineTimeout",
                            detail=detail,
                            retryable=kind == "lost",
                            usage=Usage(requests=1),
                        )
                    )
        return StageOutput(tuple(rows), tuple(dropped), tuple(lost))

    def _make(self, shard: Shard, problem: Problem, rows: list[Solution], dropped: list[Dropped]) -> None:
        """Two rows for each problem, one of which is dropped for some problems, or both."""
        given = {
            need: [row.steps for row in shard.of(need, Solution) if row.problem_id == problem.id]
            for need in self.needs
        }
        varies = self.notes.folder / "answers"
        said = varies.read_text() if self.name == "first" and varies.exists() else ""
        for sample in range(2):
            name = f"{problem.id}/{self.name}/{sample}"
            if int(content_key(name, self.option), 16) % 5 == 0:
                dropped.append(
                    Dropped(item_id=name, problem_id=problem.id, stage=self.name, reason="fifth")
                )
            else:
                text = content_key(self.option, problem, given, said)
                usage = Usage(requests=1, engine_seconds=time.perf_counter())
                rows.append(Solution(id=name, problem_id=problem.id, steps=(text,), usage=usage))


def problems(count: int) -> list[Problem]:
    return [Problem(id=f"p{index}", text=f"problem {index}") for index in range(count)]


def chain(notes: Notes, options: dict[str, int] | None = None) -> Chain:
    options = options or {}
    return Chain(
        "synthesis",
        tuple(NotedStage(name, needs, notes, options.get(name, 0)) for name, needs in STAGES.items()),
    )


class Recorder:
    """Progress that keeps what it is given."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done: Counter[str] = Counter()
        self.reused: Counter[str] = Counter()

    def begin(self, task: str, total: int | None) -> None:
        pass

    def advance(self, task: str, count: int, *, reused: bool = False) -> None:
        (self.reused if reused else self.done)[task] += count

    def end(self, task: str, result: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


class Maker(Protocol):
    """Makes an executor of one kind on a run directory."""

    def __call__(
        self, store: RunStore, *, shard_size: int, in_flight: int, progress: Progress
    ) -> AbstractAsyncContextManager[Executor]: ...


@asynccontextmanager
async def local(
    store: RunStore, *, shard_size: int, in_flight: int, progress: Progress
) -> AsyncIterator[Executor]:
    async with Resources(RunConfig()) as resources:
        yield LocalExecutor(
            store, resources, shard_size=shard_size, shards_in_flight=in_flight, progress=progress
        )


async def execute(
    make: Maker,
    folder: Path,
    work: Chain,
    given: Iterable[Problem],
    *,
    shard_size: int = 3,
    in_flight: int = 2,
    progress: Progress | None = None,
    mirror: str | None = None,
) -> dict[str, StageSummary]:
    """Run a chain on a run directory."""
    progress = progress or Recorder()
    with RunStore(
        folder,
        config="one config",
        on_repair=progress.note,
        mirror=Mirror(mirror) if mirror is not None else None,
    ) as store:
        async with make(store, shard_size=shard_size, in_flight=in_flight, progress=progress) as executor:
            return await executor.run(work, given)


def rows_of(folder: Path, stages: Sequence[str] = tuple(STAGES)) -> dict[str, Any]:
    """Everything that a complete run says: rows and dropped rows in order, costs left out."""
    reader = RunReader(folder)
    return {
        stage: (
            [(row.id, row.problem_id, row.steps) for row in reader.rows(stage)],
            [(drop.item_id, drop.problem_id, drop.reason) for drop in reader.dropped(stage)],
        )
        for stage in stages
    }


def settled(folder: Path, given: Sequence[Problem], shard_size: int) -> set[tuple[str, str]]:
    """Stages and problems that need no further work."""
    found = set()
    for stage in STAGES:
        path = folder / "stages" / stage
        for meta_path in path.glob("*-*.json"):
            meta = json.loads(meta_path.read_text())
            open_ = {*meta["waiting"], *(lost["problem_id"] for lost in meta["pending"])}
            batch = given[meta["number"] * shard_size : (meta["number"] + 1) * shard_size]
            found |= {(stage, problem.id) for problem in batch if problem.id not in open_}
    return found


def main() -> None:
    """RUN NOTES COUNT: run the chain once; says `ready` and waits for a line before it begins."""
    folder, notes, count = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(execute(local, Path(folder), chain(Notes(Path(notes))), problems(int(count))))


if __name__ == "__main__":
    main()
