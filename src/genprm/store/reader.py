"""Reading a run: rows of any stage, while it is being worked on or afterwards. Takes no lock, writes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from genprm import records
from genprm.errors import StoreError
from genprm.records import Dropped, Problem, StageOutput, problem_of
from genprm.store.files import read_json
from genprm.store.meta import ShardMeta, StageSummary
from genprm.store.shards import StageStore


class RunReader:
    """Reads a run directory.

    Raises:
        StoreError: the directory holds no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "run.json").is_file():
            raise StoreError(
                f"{self.path} is not a run directory",
                hint="Give the directory that 'genprm run' or 'genprm eval' wrote.",
            )

    def facts(self) -> dict[str, Any]:
        """Versions, seed and the like."""
        facts: dict[str, Any] = read_json(self.path / "run.json")
        return facts

    def stages(self) -> list[StageSummary]:
        """Summaries of all stages that were begun, by name."""
        folders = sorted(path.parent for path in self.path.glob("stages/*/stage.json"))
        found = [self._store(folder.name, BaseModel).summary() for folder in folders]
        return [summary for summary in found if summary is not None]

    def summary(self, stage: str) -> StageSummary:
        """A stage's summary.

        Raises:
            StoreError: there is no such stage in this run.
        """
        found = self._store(stage, BaseModel).summary()
        path = self.path / "stages" / stage / "stage.json"
        if found is None and path.exists():
            raise StoreError(
                f"{path} is damaged, or of another version of genprm",
                hint=f"{self._again()}: it is written anew, the shards stand.",
            )
        if found is None:
            known = ", ".join(summary.stage for summary in self.stages()) or "none yet"
            raise StoreError(
                f"the run {self.path} has no stage '{stage}'", hint=f"Stages of this run: {known}."
            )
        return found

    def rows(self, stage: str, *, partial: bool = False) -> Iterator[Any]:
        """Rows of a stage in the run's order, one shard in memory at a time.

        Args:
            stage: a name that `stages()` lists, for example `solutions` (rows are `genprm.Solution`), `montecarlo`
                (`SolutionScores`), `labels` (`SolutionLabels`) or `chats` (`TrainingSample`).
            partial: give the finished shards; otherwise an incomplete stage is an error. A problem that is in two of
                them, because a run with other shards was interrupted, counts with the first.

        Raises:
            StoreError: no such stage, or one that is not complete, or whose shards are damaged.
        """
        for store, meta, known in self._shards(stage, partial=partial):
            yield from (row for row in store.rows(meta) if problem_of(row) not in known)

    def dropped(self, stage: str, *, partial: bool = False) -> Iterator[Dropped]:
        """What a stage did not pass on. See `rows`."""
        for store, meta, known in self._shards(stage, partial=partial):
            yield from (row for row in store.dropped(meta) if row.problem_id not in known)

    def problems(self, *, partial: bool = True) -> Iterator[Problem]:
        """The run's problems."""
        return self.rows("problems", partial=partial)

    def about(self, problem_id: str) -> dict[str, StageOutput[Any]]:
        """Everything that finished shards hold about one problem, by stage; stages without anything are left out.

        Raises:
            StoreError: no finished shard has this problem, and the hint names ids that look alike; or one of the shards
                that have it is damaged.
        """
        stages = [summary for summary in self.stages() if summary.row_type]
        numbers, ids = self._places_of(problem_id, stages)
        if not numbers:
            near = difflib.get_close_matches(problem_id, ids, n=3)
            known = ", ".join(near or ids[:3]) or "none yet"
            raise StoreError(
                f"the run {self.path} has no problem '{problem_id}' in its finished shards",
                hint=f"Ids of this run: {known}; 'genprm export RUN problems --partial' prints all.",
            )
        found = {}
        for summary in stages:
            made = self._about(problem_id, summary, numbers)
            if made.rows or made.dropped or made.lost:
                found[summary.stage] = made
        return found

    def _places_of(self, problem_id: str, stages: Sequence[StageSummary]) -> tuple[set[int], list[str]]:
        """Numbers of the shards with this problem, and the ids of all problems if there is none."""
        numbers: set[int] = set()
        ids: list[str] = []
        damage: StoreError | None = None
        for summary in stages:
            if summary.row_type == Problem.__name__:
                store, read = self._store(summary.stage, Problem), list[int]()
                for meta in store.current(summary.recipe):
                    read.append(meta.number)
                    here = _problems_of(store, meta)
                    ids += here
                    if problem_id in here:
                        numbers.add(meta.number)
                        break
                else:
                    if summary.complete and len(read) < summary.shards:
                        damage = self._damaged(summary, len(read))
        if damage is not None and not numbers:
            raise damage
        return numbers, ids

    def _about(self, problem_id: str, summary: StageSummary, numbers: Collection[int]) -> StageOutput[Any]:
        store = self._store(summary.stage, self._row_type(summary))
        metas = list(store.current(summary.recipe, numbers))
        if summary.complete and len(metas) < sum(number < summary.shards for number in numbers):
            raise self._damaged(summary, sum(1 for _ in store.current(summary.recipe)))
        return StageOutput(
            tuple(row for meta in metas for row in store.rows(meta) if problem_of(row) == problem_id),
            tuple(row for meta in metas for row in store.dropped(meta) if row.problem_id == problem_id),
            tuple(lost for meta in metas for lost in meta.pending if lost.problem_id == problem_id),
        )

    def _row_type(self, summary: StageSummary) -> type[BaseModel]:
        found: type[BaseModel] | None = getattr(records, summary.row_type, None)
        if found is None:
            raise StoreError(
                f"the stage '{summary.stage}' in {self.path} has rows of an unknown kind: {summary.row_type}",
                hint="Run the same command again with the version of genprm that made the run.",
            )
        return found

    def _shards(
        self, stage: str, *, partial: bool
    ) -> Iterator[tuple[StageStore[Any], ShardMeta, Collection[str]]]:
        """Each shard, and the problems of those before it that it may have once more."""
        summary = self.summary(stage)
        if not summary.complete and not partial:
            raise StoreError(
                f"the stage '{stage}' is not complete in {self.path}: {self._state_of(summary)}",
                hint=f"Run 'genprm run CONFIG --until {stage}' first, or read what is there with --partial "
                "(partial=True).",
            )
        store = self._store(stage, self._row_type(summary))
        count, known = 0, set[str]()
        for meta in store.current(summary.recipe):
            count += 1
            yield store, meta, known
            if not summary.complete:
                known.update(_problems_of(store, meta))
        if summary.complete and count != summary.shards and not partial:
            raise self._damaged(summary, count)

    def _damaged(self, summary: StageSummary, count: int) -> StoreError:
        return StoreError(
            f"the stage '{summary.stage}' has {count} of {summary.shards} shards in {self.path}; others are damaged",
            hint=f"{self._again()}; only these shards are computed anew.",
        )

    def _again(self) -> str:
        return f"Run 'genprm run {self.path / 'config.yaml'}', or the command that made the run, again"

    def _state_of(self, summary: StageSummary) -> str:
        """How far an incomplete stage is, in words."""
        if summary.pending:
            return f"{summary.pending} of {summary.problems} problems are pending"
        finished = sum(1 for _ in self._store(summary.stage, BaseModel).current(summary.recipe))
        most = f" of at most {summary.planned}" if summary.planned is not None else ""
        return f"{finished}{most} shards are finished"

    def _store(self, stage: str, row_type: type[BaseModel]) -> StageStore[Any]:
        return StageStore(self.path, stage, row_type)


def _problems_of(store: StageStore[Any], meta: ShardMeta) -> list[str]:
    """Ids of the problems that a shard has anything of."""
    return [
        *dict.fromkeys(problem_of(row) for row in store.rows(meta)),
        *(row.problem_id for row in store.dropped(meta)),
        *meta.unsettled,
    ]
