"""Run one stage over its items, shard by shard, through the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from genprm.records import StageOutput
from genprm.store import RunStore, StageSummary, content_key

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT", bound=BaseModel)


class Progress(Protocol):
    """Told how far a stage is. The command line draws bars from it."""

    def start(self, stage: str, total: int, done: int) -> None:
        """A stage of `total` items begins, `done` of which an earlier run finished."""
        ...

    def advance(self, stage: str, items: int) -> None:
        """`items` more are finished."""
        ...

    def finish(self, stage: str, summary: StageSummary | None) -> None:
        """The stage is complete; stages that make no rows have no summary."""
        ...


class Silent:
    """Progress that nobody watches."""

    def start(self, stage: str, total: int, done: int) -> None:
        """Do nothing."""

    def advance(self, stage: str, items: int) -> None:
        """Do nothing."""

    def finish(self, stage: str, summary: StageSummary | None) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Stage(Generic[ItemT, RowT]):
    """A stage as the runner sees it.

    Attributes:
        name: its folder in the run directory.
        row_type: the record that it makes.
        decided_by: everything apart from the items that decides its rows: options, seed, engines.
            Part of every shard's key.
        run: the stage itself, on one shard's items.
    """

    name: str
    row_type: type[RowT]
    decided_by: Any
    run: Callable[[Sequence[ItemT]], Awaitable[StageOutput[RowT]]]


async def run_stage(
    store: RunStore,
    stage: Stage[ItemT, RowT],
    items: Sequence[ItemT],
    *,
    shard_size: int,
    progress: Progress,
) -> list[RowT]:
    """Run a stage and return its rows in the order of the items.

    Shards that an earlier run finished are read, not computed. Shards run one after the other, so
    that what a shard computes does not depend on where an earlier run was killed.
    """
    shards = [items[start : start + shard_size] for start in range(0, len(items), shard_size)]
    keys = [content_key(stage.name, stage.decided_by, shard) for shard in shards]
    folder = store.stage(stage.name, stage.row_type)
    found = [folder.find(key) for key in keys]
    done = sum(len(shard) for shard, meta in zip(shards, found, strict=True) if meta)
    progress.start(stage.name, len(items), done)
    metas = []
    for shard, key, meta in zip(shards, keys, found, strict=True):
        if meta is None:
            began = time.perf_counter()
            output = await stage.run(shard)
            meta = folder.write(key, len(shard), output, time.perf_counter() - began)
            progress.advance(stage.name, len(shard))
        metas.append(meta)
    progress.finish(stage.name, folder.finish(metas))
    return [row for meta in metas for row in folder.rows(meta)]
