"""The actor: one process of a cluster, which owns engines and a sandbox and leads the shards that it is given.

It runs the same flow as the local executor and writes the same files. The run's lock, the leases, totals and summaries
are the driver's: an actor reports what it did, shard by shard, as it does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from genprm.aio import cancel_all
from genprm.config import EngineConfig
from genprm.errors import ClusterError, ConfigError, GenPRMError, StoreError
from genprm.identity import Decides, content_key
from genprm.records import StageOutput
from genprm.runs.cluster.messages import (
    Computed,
    Event,
    Failed,
    Judged,
    Led,
    Noted,
    Order,
    Ready,
    Repaired,
    Reused,
)
from genprm.runs.flow import ShardFlow
from genprm.runs.ledger import Recipes, SharedClock, judged, tried
from genprm.runs.resources import Resources
from genprm.runs.stage import Shard
from genprm.store import Mirror, ShardMeta, StageStore, check_mandate

_LOOK_SECONDS = 15.0
"""A file that the driver has just made may take so long to be seen on other nodes: network file systems cache."""


class _Reports:
    """The account of one shard on its way: what happens to it becomes events for the driver."""

    def __init__(self, recipes: Recipes, clock: SharedClock, works: set[str], second_pass: bool) -> None:
        self.clock = clock
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        """None ends them."""
        self._recipes = recipes
        self._works = works
        self._second_pass = second_pass

    def decides(self, stage: str) -> Decides:
        """See `Account`."""
        return self._recipes.decides(stage)

    def recipe(self, stage: str) -> str:
        """See `Account`."""
        return self._recipes.recipe(stage)

    def judge(self, stage: str, made: StageOutput[Any], *, again: int) -> StageOutput[Any]:
        """See `Account`."""
        count = tried(made)
        self.events.put_nowait(Judged(stage, made.lost, count, again))
        if len(made.lost) < count:
            self._works.add(stage)
        return judged(stage, made, sound=self._second_pass and stage in self._works)

    def computed(self, stage: str, meta: ShardMeta, problems: int) -> None:
        """See `Account`."""
        self.events.put_nowait(Computed(stage, meta, problems))

    def reused(self, stage: str, meta: ShardMeta) -> None:
        """See `Account`."""
        if meta.rows and not self._second_pass:
            self._works.add(stage)
        self.events.put_nowait(Reused(stage, meta))

    def note(self, text: str) -> None:
        """See `Account`."""
        self.events.put_nowait(Noted(text))


_REPORTS: ContextVar[_Reports] = ContextVar("_REPORTS")
"""Of the shard that the current task leads."""


class _Work:
    """An order, and what is made for it once: identities, stores.

    With a mirror the stores are in a folder of this actor's own, which holds the shards that are in work alone.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.mirror = Mirror(order.mirror) if order.mirror is not None else None
        self._own = tempfile.TemporaryDirectory(prefix="genprm-actor-") if self.mirror is not None else None
        run = Path(self._own.name) if self._own is not None else order.run
        self.recipes = Recipes(order.chain)
        self.clock = SharedClock()
        self.works: set[str] = set()
        self.stores: dict[str, StageStore[Any]] = {
            stage.name: StageStore(
                run, stage.name, stage.row_type, order.format, _report_repair, self._guard
            )
            for stage in order.chain.stages
        }

    def forget(self, shard: Shard) -> None:
        """Remove what the own folder, if there is one, holds of a shard."""
        if self._own is not None:
            for path in Path(self._own.name).glob(f"*/*/{shard.number:06d}-*"):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the own folder."""
        if self._own is not None:
            self._own.cleanup()

    def _guard(self) -> None:
        if self._own is None:
            check_mandate(self.order.mandate, self.order.actor)


def _report_repair(text: str) -> None:
    _REPORTS.get().events.put_nowait(Repaired(text))


class ShardActor:
    """What Ray runs on a node. Engines, sandbox and domain are made when needed, and kept while configs stay equal."""

    def __init__(self) -> None:
        self._work: _Work | None = None
        self._resources: Resources | None = None
        self._config = ""
        self._leading: set[asyncio.Task[Led | Failed]] = set()

    async def begin(self, order: Order) -> Ready | GenPRMError:
        """Get ready for a run of a chain; what keeps this node from it is the answer."""
        await self._put_down()
        try:
            self._work = await asyncio.to_thread(_accept, order)
        except GenPRMError as error:
            return error
        config = content_key(order.config)
        if self._resources is None or config != self._config:
            await self._close_resources()
            # Without a cache of completions: it is a database file, which nodes cannot share.
            self._resources, self._config = Resources(order.config), config
        return Ready(f"{_node()}, process {os.getpid()}")

    async def lead(self, shard: Shard, works: frozenset[str], second_pass: bool) -> AsyncIterator[Event]:
        """Lead a shard through the chain, and yield what happens as it happens; the end is `Led` or `Failed`.

        Args:
            works: the stages that settled any problem anywhere.
            second_pass: whether what a first pass left is being tried again.
        """
        work, resources = self._work, self._resources
        assert work is not None
        assert resources is not None
        # Before a second pass the driver may take back that a stage works.
        work.works = set(works) if second_pass else work.works | works
        reports = _Reports(work.recipes, work.clock, work.works, second_pass)
        task = asyncio.create_task(_lead(work, shard, resources, reports))
        self._leading.add(task)
        task.add_done_callback(self._leading.discard)
        task.add_done_callback(lambda _: reports.events.put_nowait(None))
        while (event := await reports.events.get()) is not None:
            yield event
        yield await task

    async def end(self) -> None:
        """Stop everything that is in work; afterwards nothing is written."""
        await cancel_all([*self._leading])

    async def release(self, engine: EngineConfig) -> None:
        """Close an engine that is no longer needed."""
        if self._resources is not None:
            await self._resources.release(engine)

    async def close(self) -> None:
        """Stop, and close engines and sandbox."""
        await self._put_down()
        await self._close_resources()

    async def _put_down(self) -> None:
        """Stop, and forget what the work was."""
        await self.end()
        if self._work is not None:
            work, self._work = self._work, None
            work.close()

    async def _close_resources(self) -> None:
        if self._resources is not None:
            resources, self._resources = self._resources, None
            await resources.__aexit__(None, None, None)


async def _lead(work: _Work, shard: Shard, resources: Resources, reports: _Reports) -> Led | Failed:
    _REPORTS.set(reports)
    flow = ShardFlow(work.order.chain.stages, work.stores, resources, reports, work.mirror)
    try:
        return Led(await flow.lead(shard))
    except GenPRMError as error:
        return Failed(error)
    finally:
        work.forget(shard)


def _accept(order: Order) -> _Work:
    """Find out whether this node sees what the driver sees: the run directory, and whatever decides rows."""
    if order.mirror is None:
        _see_run(order)
    with contextlib.suppress(OSError):
        os.chdir(order.folder)  # so that relative paths in the config mean what they mean to the driver
    work = _Work(order)
    for stage in order.chain.stages:
        if work.recipes.decides(stage.name).digest() != order.decides[stage.name]:
            raise ConfigError(
                f"the node {_node()} would make other rows in the stage '{stage.name}' than the driver: it has another "
                "version of genprm, or other files under a model's or a profile's path",
                hint="Give all nodes the same genprm, the same models and the same profiles.",
            )
    return work


def _see_run(order: Order) -> None:
    until = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            check_mandate(order.mandate, order.actor)
            return
        except StoreError:
            if time.monotonic() >= until:
                raise ClusterError(
                    f"the node {_node()} does not see the run directory {order.run}",
                    hint="Put it on a file system that all nodes mount at the same path (--run-dir), or set "
                    "store.mirror.",
                ) from None
            time.sleep(0.2)


def _node() -> str:
    return os.uname().nodename
