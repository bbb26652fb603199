"""Reading a run: rows of any stage, while it is being worked on or afterwards. Takes no lock, writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from genprm import records
from genprm.errors import StoreError
from genprm.records import Dropped, Problem
from genprm.store.files import read_json
from genprm.store.shards import ShardMeta, StageStore, StageSummary


class RunReader:
    """Reads a run directory.

    Raises:
        StoreError: the directory holds no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "run.json").is_file():
            raise StoreError(
                f"{self.path} holds no run",
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
            partial: give the finished shards; otherwise an incomplete stage is an error.

        Raises:
            StoreError: no such stage, or one that is not complete.
        """
        for store, meta in self._shards(stage, partial=partial):
            yield from store.rows(meta)

    def dropped(self, stage: str, *, partial: bool = False) -> Iterator[Dropped]:
        """What a stage did not pass on. See `rows`."""
        for store, meta in self._shards(stage, partial=partial):
            yield from store.dropped(meta)

    def problems(self, *, partial: bool = True) -> Iterator[Problem]:
        """The run's problems."""
        return self.rows("problems", partial=partial)

    def _shards(self, stage: str, *, partial: bool) -> Iterator[tuple[StageStore[Any], ShardMeta]]:
        summary = self.summary(stage)
        if not summary.complete and not partial:
            raise StoreError(
                f"the stage '{stage}' is not complete in {self.path}",
                hint=f"Run 'genprm run CONFIG --until {stage}' first.",
            )
        row_type = getattr(records, summary.row_type, None)
        if row_type is None:
            raise StoreError(
                f"the stage '{stage}' in {self.path} has rows of an unknown kind: {summary.row_type}",
                hint="Run the same command again with the version of genprm that made the run.",
            )
        store = self._store(stage, row_type)
        count = 0
        for meta in store.current(summary.recipe):
            count += 1
            yield store, meta
        if summary.complete and count != summary.shards and not partial:
            raise StoreError(
                f"the stage '{stage}' has {count} of {summary.shards} shards in {self.path}; others are damaged",
                hint="Run the same command again; only these shards are computed anew.",
            )

    def _store(self, stage: str, row_type: type[BaseModel]) -> StageStore[Any]:
        return StageStore(self.path, stage, row_type)
