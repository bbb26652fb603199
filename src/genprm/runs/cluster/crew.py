"""Actors and the shards in their hands: who is ready, who died, who takes over."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from genprm.aio import cancel_all
from genprm.config import EngineConfig, ExecutorConfig, RunConfig
from genprm.errors import ClusterError, GenPRMError, StoreError
from genprm.runs.cluster.actor import ShardActor
from genprm.runs.cluster.connection import deaths, load_ray
from genprm.runs.cluster.handover import take_over
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
from genprm.runs.ledger import Ledger
from genprm.runs.stage import Chain, Shard
from genprm.store import Mandate, RunStore, ShardMeta

_STOP_SECONDS = 20.0
_NOTE_AFTER = 15.0


@dataclass
class Seat:
    """A place for one actor at a time.

    Attributes:
        actor: Ray's handle; None until one is made, and after a death.
        name: of this actor, in mandates: the next one in the same seat has another.
    """

    number: int
    actor: Any = None
    name: str = ""


class Pool:
    """The actors of a run, spread over the nodes of the cluster that this process is connected to.

    They are made when they are first needed, keep their engines from chain to chain, and end with `close`.

    Args:
        options: how many there are, and what the scheduler sets aside for each.
    """

    def __init__(self, options: ExecutorConfig) -> None:
        self.ray: Any = load_ray()
        self.options = options
        self.deaths = deaths(self.ray)
        self._silence: tuple[type[Exception], ...] = (TimeoutError, *self.deaths)
        count = options.actors or sum(_has_room(node, options) for node in self.ray.nodes()) or 1
        self.seats = [Seat(number) for number in range(count)]
        self._kind = self.ray.remote(ShardActor).options(
            num_cpus=options.cpus_per_actor,
            num_gpus=options.gpus_per_actor,
            scheduling_strategy="SPREAD",
            max_restarts=0,
        )

    def fill(self, seat: Seat) -> Any:
        """The seat's actor; a new one if there is none."""
        if seat.actor is None:
            seat.name = f"actor-{seat.number}-{uuid.uuid4().hex[:8]}"
            seat.actor = self._kind.remote()
        return seat.actor

    def clear(self, seat: Seat) -> None:
        """Make sure that the seat's actor is gone."""
        actor, seat.actor = seat.actor, None
        with suppress(Exception):  # it may have been gone before
            self.ray.kill(actor, no_restart=True)

    async def release(self, engine: EngineConfig) -> None:
        """Close an engine in every actor."""
        await self.each(lambda actor: actor.release.remote(engine))

    async def close(self) -> None:
        """End all actors, their engines and sandboxes first."""
        await self.each(lambda actor: actor.close.remote())
        for seat in self.seats:
            if seat.actor is not None:
                self.clear(seat)

    async def each(self, call: Callable[[Any], Any]) -> None:
        """Call every actor and wait; one that does not answer is removed."""

        async def one(seat: Seat) -> None:
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await call(seat.actor)
            except self._silence:
                self.clear(seat)

        await asyncio.gather(*(one(seat) for seat in self.seats if seat.actor is not None))


@dataclass
class _Post:
    """A seat during one run of a chain.

    Attributes:
        leading: shards in its actor's hands.
    """

    seat: Seat
    ready: bool = False
    place: str = ""
    leading: int = 0
    vacant: asyncio.Event = field(default_factory=asyncio.Event)


class Crew:
    """The pool's actors at work on one chain. A `Leader`, and an async context manager.

    Args:
        each: shards that an actor leads at the same time.
    """

    def __init__(
        self,
        pool: Pool,
        chain: Chain,
        config: RunConfig,
        store: RunStore,
        mandate: Mandate,
        ledger: Ledger,
        *,
        each: int,
    ) -> None:
        self._pool = pool
        self._chain = chain
        share = max(config.concurrency // len(pool.seats), 1)
        self._config = config.model_copy(update={"concurrency": share})
        self._store = store
        self._stores = {stage.name: store.stage(stage.name, stage.row_type) for stage in chain.stages}
        self._mandate = mandate
        self._ledger = ledger
        self._each = each
        self._posts = [_Post(seat) for seat in pool.seats]
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: Exception | None = None
        self._change = asyncio.Event()

    async def __aenter__(self) -> Crew:
        work: list[Callable[[], Awaitable[None]]] = [self._watch]
        work += [partial(self._staff, post) for post in self._posts]
        self._tasks = [asyncio.create_task(self._guarded(one)) for one in work]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancel_all(self._tasks)
        for post in self._posts:
            if post.seat.actor is not None and not post.ready:
                self._pool.clear(post.seat)  # it waits for a place, or is still being made
        await self._pool.each(lambda actor: actor.end.remote())

    async def lead(self, shard: Shard) -> bool:
        """See `Leader`: by one actor, and by others if it dies.

        Raises:
            ClusterError: too many actors died with this shard in their hands, or none can be had.
            GenPRMError: a stage cannot work at all.
        """
        died = overtaken = 0
        while True:
            post = await self._free()
            name = post.seat.name
            try:
                settled, metas = await self._follow(post.seat.actor, shard)
                if await take_over(self._store.mirror, self._stores, metas):
                    return settled
                overtaken += 1
                if overtaken > self._pool.options.max_deaths:
                    raise StoreError(
                        f"store.mirror: what actors sent for shard {shard.number} was not there afterwards, {overtaken} "
                        "times",
                        hint="Does another run use the same mirror? Each needs one of its own.",
                    )
            except self._pool.deaths as error:
                self._bury(post, name, error)
                died += 1
                if died > self._pool.options.max_deaths:
                    raise ClusterError(
                        f"{died} actors died with shard {shard.number} in their hands, the last one: {_reason(error)}",
                        hint="Most often the memory of a node was used up: see Ray's logs, lower "
                        "store.shards_in_flight or raise executor.max_deaths. Finished work is kept.",
                    ) from None
            finally:
                if post.seat.name == name:
                    post.leading -= 1
                    self._wake()

    async def _follow(self, actor: Any, shard: Shard) -> tuple[bool, dict[str, ShardMeta]]:
        """Have an actor lead a shard and enter in the ledger what it reports; also by stage, what it made or found."""
        ledger = self._ledger
        metas: dict[str, ShardMeta] = {}
        stream = actor.lead.options(num_returns="streaming").remote(
            shard, ledger.works(), ledger.second_pass()
        )
        async for answer in stream:
            event: Event = await answer
            match event:
                case Judged(stage, lost, tried, again):
                    ledger.count(stage, lost, tried, again=again)
                case Computed(stage, meta, problems):
                    metas[stage] = meta
                    ledger.computed(stage, meta, problems)
                case Reused(stage, meta):
                    metas[stage] = meta
                    ledger.reused(stage, meta)
                case Noted(text):
                    ledger.note(text)
                case Repaired(text):
                    self._store.repaired(text)
                case Led(settled):
                    return settled, metas
                case Failed(error):
                    raise error
        raise AssertionError("an actor's reports end with `Led` or `Failed`")

    async def _staff(self, post: _Post) -> None:
        """Keep an actor in a seat, ready for the chain."""
        died = 0
        while True:
            actor, name = self._pool.fill(post.seat), post.seat.name
            try:
                answer = await actor.begin.remote(self._order(name))
            except self._pool.deaths as error:
                if "No module named" in str(error):
                    raise _cannot_import(error) from None
                self._bury(post, name, error)
                died += 1
                if died > self._pool.options.max_deaths:
                    raise ClusterError(
                        f"{died} actors died before they could begin, the last one: {_reason(error)}",
                        hint="See Ray's logs on the nodes (/tmp/ray/session_latest/logs).",
                    ) from None
                continue
            except self._pool.ray.exceptions.RuntimeEnvSetupError as error:
                raise ClusterError(
                    f"the runtime environment of the actors cannot be set up: {_reason(error)}",
                    hint="See executor.runtime_env.",
                ) from None
            if isinstance(answer, GenPRMError):
                raise answer
            assert isinstance(answer, Ready)
            died = 0
            post.ready, post.place, post.leading = True, answer.place, 0
            post.vacant.clear()
            self._wake()
            await post.vacant.wait()

    async def _watch(self) -> None:
        """Say so if nobody is ready for a while, and give up in the end."""
        since, told, limit = time.monotonic(), False, self._pool.options.wait_seconds
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            waited = time.monotonic() - since
            if any(post.ready for post in self._posts):
                since, told = time.monotonic(), False
            elif waited >= limit:
                raise ClusterError(
                    f"the cluster has had no place for an actor for {waited:.0f} s: {self._wanted()}",
                    hint="See `ray status`; set executor.cpus_per_actor and executor.gpus_per_actor to what a node has, "
                    "or executor.wait_seconds to how long new nodes take.",
                )
            elif waited >= _NOTE_AFTER and not told:
                told = True
                self._ledger.note(f"waiting for the cluster to place an actor: {self._wanted()}")

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Those who wait for an actor get what went wrong with the crew."""
        try:
            await work()
        except Exception as error:
            self._failure = self._failure or error
            self._wake()

    async def _free(self) -> _Post:
        """The least loaded actor that takes one more shard, once there is one."""
        while True:
            if self._failure is not None:
                raise self._failure
            free = [post for post in self._posts if post.ready and post.leading < self._each]
            if free:
                post = min(free, key=lambda one: one.leading)
                post.leading += 1
                return post
            await self._change.wait()

    def _bury(self, post: _Post, name: str, error: Exception) -> None:
        """An actor is taken for dead: it may not write any more, and its seat is for another. Once for each actor."""
        if post.seat.name != name or post.seat.actor is None:
            return
        self._mandate.revoke(name)
        self._pool.clear(post.seat)
        place = f" on {post.place}" if post.place else ""
        self._ledger.note(f"an actor{place} died, and others take its shards: {_reason(error)}")
        post.seat.name, post.ready, post.place, post.leading = "", False, "", 0
        post.vacant.set()

    def _order(self, name: str) -> Order:
        return Order(
            actor=name,
            chain=self._chain,
            decides={stage.name: self._ledger.decides(stage.name).digest() for stage in self._chain.stages},
            config=self._config,
            folder=Path.cwd(),
            run=self._store.path.absolute(),
            mandate=self._mandate.path.absolute(),
            mirror=self._store.mirror.url if self._store.mirror is not None else None,
            format=self._store.format,
        )

    def _wanted(self) -> str:
        options = self._pool.options
        return f"each takes {options.cpus_per_actor:g} CPUs and {options.gpus_per_actor:g} GPUs"

    def _wake(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def _has_room(node: dict[str, Any], options: ExecutorConfig) -> bool:
    """Whether a node that Ray lists has enough of everything for an actor, were it idle."""
    has: dict[str, float] = node["Resources"]
    enough = has.get("CPU", 0) >= options.cpus_per_actor and has.get("GPU", 0) >= options.gpus_per_actor
    return bool(node["Alive"]) and enough


def _cannot_import(error: Exception) -> ClusterError:
    lines = [line.strip() for line in str(error).splitlines() if "No module named" in line]
    return ClusterError(
        f"an actor cannot import what it needs: {lines[-1]}",
        hint="Install genprm, and the packages of your plugins, on all nodes, or name them in executor.runtime_env.",
    )


def _reason(error: Exception) -> str:
    """Ray's errors are pages long; their first sentence says it."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) < 200 else text[:197] + "..."
