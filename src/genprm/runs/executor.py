"""Executors: shards of problems flow through a chain of stages, several at once; the local one does it in one process.

A shard goes through all stages of the chain while others do the same, so an engine never drains at a stage's or a
shard's end, and memory is that of the shards in flight. Finished shards of an earlier run are read, not computed. A
problem that an engine or sandbox fault kept from being settled is pending in its shard: the shard's other problems go
on, and the pending one alone is tried again, once more at the end of this run and then by the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from itertools import islice
from typing import Protocol

from genprm.aio import stream_map
from genprm.config import EngineConfig
from genprm.errors import EngineUnavailable, RunIncomplete
from genprm.records import Lost, Problem
from genprm.rewards.faults import fault_hint
from genprm.runs.flow import ShardFlow
from genprm.runs.ledger import Ledger
from genprm.runs.progress import Progress, Silent
from genprm.runs.resources import Resources
from genprm.runs.stage import Chain, Shard
from genprm.runs.stages.problems import ProblemsStage
from genprm.store import RunStore, StageSummary
from genprm.text.counts import counted

OUTAGE_AFTER = 8
"""So many problems that a stage lost in a row, with none settled between them, mean that an engine is down.

Problems that were lost before do not count: some may be lost every time, and must not keep a run from the others.
"""

_BUDGETS = {
    "solutions": "solutions.max_tokens",
    "montecarlo": "montecarlo.max_tokens",
    "rationales": "rationales.max_tokens",
    "refinements": "refine.max_tokens",
}
"""Which key bounds the tokens that a stage asks for, by the end of the stage's name; the others are verifications."""


class Leader(Protocol):
    """Takes single shards through a chain."""

    async def lead(self, shard: Shard) -> bool:
        """Complete every stage for the shard; whether all its problems are settled in all of them."""
        ...


class Executor(ABC):
    """Runs chains on a run directory, whoever leads the shards. Several processes may run one chain on one directory:
    they share its shards.

    Args:
        store: the run directory, open.
        shard_size: problems per shard.
        in_flight: shards in work at the same time.
    """

    def __init__(
        self, store: RunStore, *, shard_size: int, in_flight: int, progress: Progress | None
    ) -> None:
        self._store = store
        self._shard_size = shard_size
        self._in_flight = in_flight
        self._progress = progress or Silent()

    @abstractmethod
    def _leader(self, chain: Chain, ledger: Ledger) -> AbstractAsyncContextManager[Leader]:
        """Who leads the shards of a chain, and reports to the ledger."""

    @abstractmethod
    async def release(self, engine: EngineConfig) -> None:
        """Close an engine that is no longer needed, to give its memory back."""

    async def run(
        self, chain: Chain, problems: Iterable[Problem], *, total: int | None = None, kept: bool = True
    ) -> dict[str, StageSummary]:
        """Run a chain over problems and return each stage's summary.

        Args:
            problems: read only as fast as shards begin; again from the start for a second try, so it must be
                an iterable that can be iterated twice (a list, or an object whose `__iter__` reads anew).
            total: how many there are, for the progress.
            kept: whether the run directory stays when the run has failed, so that errors may point to it.

        Raises:
            RunIncomplete: problems are still pending after a second try; all others are kept.
            EngineUnavailable: an engine is down; what was settled before is kept.
            GenPRMError: a stage cannot work at all.
        """
        chain = replace(chain, stages=(ProblemsStage(name=_problems_name(chain)), *chain.stages))
        ledger = Ledger(chain, self._store, self._progress)
        ledger.begin(total, self._shard_size)
        await self._catch_up(chain)
        try:
            async with self._leader(chain, ledger) as leader:
                await self._passes(chain, problems, ledger, leader)
        except EngineUnavailable as error:
            if not kept or not ledger.works() - {_problems_name(chain)}:
                raise
            raise _with_what_is_kept(error) from error
        summaries = ledger.finish()
        pending = max((summary.pending for summary in summaries.values()), default=0)
        if pending:
            raise _incomplete(pending, ledger.commonest_fault(), kept=kept)
        return summaries

    async def _catch_up(self, chain: Chain) -> None:
        """Send to the mirror what it lacks, before others look for it there."""
        mirror = self._store.mirror
        if mirror is not None:
            await mirror.open(self._store.path)
            for stage in chain.stages:
                await mirror.catch_up(self._store.stage(stage.name, stage.row_type))

    async def _passes(
        self, chain: Chain, problems: Iterable[Problem], ledger: Ledger, leader: Leader
    ) -> None:
        """Take every shard through the chain, and those with pending problems once more."""
        lost, elsewhere = await self._pass(chain, problems, ledger, leader)
        if elsewhere:
            # Other processes had these in work: what they made is read, what they left is made.
            lost |= (await self._pass(chain, problems, ledger, leader, elsewhere))[0]
        if lost:
            self._progress.note(
                f"lost to faults: {counted(ledger.pending(), 'problem')}, to be tried once more"
            )
            ledger.begin_again(OUTAGE_AFTER)
            await self._pass(chain, problems, ledger, leader, lost)

    async def _pass(
        self,
        chain: Chain,
        problems: Iterable[Problem],
        ledger: Ledger,
        leader: Leader,
        only: set[int] | None = None,
    ) -> tuple[set[int], set[int]]:
        """Take every shard through the chain, or `only` some, then waiting for other processes that have them.

        Returns:
            Numbers of the shards with pending problems, and of those that other processes have in work.
        """
        lost: set[int] = set()
        elsewhere: set[int] = set()
        shards = (shard for shard in self._shards(problems) if only is None or shard.number in only)

        async def work(shard: Shard) -> None:
            name = f"{chain.name}-{shard.number:06d}"
            if only is not None:
                async with self._store.leased(name):
                    settled = await leader.lead(shard)
            else:
                with self._store.lease(name) as mine:
                    if not mine:
                        elsewhere.add(shard.number)
                        return
                    settled = await leader.lead(shard)
            ledger.close(shard.number)
            if not settled:
                lost.add(shard.number)

        async with aclosing(stream_map(work, shards, self._in_flight)) as done:
            async for _ in done:
                found = ledger.outage(OUTAGE_AFTER)
                if found is not None:
                    raise _down(*found)
        return lost, elsewhere

    def _shards(self, problems: Iterable[Problem]) -> Iterator[Shard]:
        source = iter(problems)
        number = 0
        while batch := tuple(islice(source, self._shard_size)):
            yield Shard(number, batch)
            number += 1


class LocalExecutor(Executor):
    """Runs chains in this process.

    Args:
        store: the run directory, open.
        resources: engines, sandbox and domain.
        shard_size: problems per shard.
        shards_in_flight: shards in work at the same time.
    """

    def __init__(
        self,
        store: RunStore,
        resources: Resources,
        *,
        shard_size: int = 64,
        shards_in_flight: int = 4,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(store, shard_size=shard_size, in_flight=shards_in_flight, progress=progress)
        self._resources = resources

    @asynccontextmanager
    async def _leader(self, chain: Chain, ledger: Ledger) -> AsyncIterator[Leader]:
        stores = {stage.name: self._store.stage(stage.name, stage.row_type) for stage in chain.stages}
        yield ShardFlow(chain.stages, stores, self._resources, ledger, self._store.mirror)

    async def release(self, engine: EngineConfig) -> None:
        """See `Executor`."""
        await self._resources.release(engine)


def _incomplete(pending: int, met: tuple[str, Lost] | None, *, kept: bool) -> RunIncomplete:
    told = f"{counted(pending, 'problem')} {'is' if pending == 1 else 'are'} pending"
    hints = []
    if met is None:
        told += ": an earlier run lost them"
    else:
        told += f": {met[1].reason}: {met[1].detail}"
        hints.append(_hint(*met))
    if kept:
        hints.append(
            "What is settled is kept in the run directory; run again, and the pending ones alone are tried again."
        )
    return RunIncomplete(told, hint=" ".join(hints))


def _down(stage: str, count: int, fault: Lost) -> EngineUnavailable:
    return EngineUnavailable(
        f"stage '{stage}': the last {count} problems were all lost: {fault.reason}: {fault.detail}",
        hint=_hint(stage, fault),
        retryable=fault.retryable,
    )


def _hint(stage: str, fault: Lost) -> str:
    budget = _BUDGETS.get(stage.rpartition("-")[2], "verify.max_tokens")
    return fault_hint(fault.reason, retryable=fault.retryable, budget=budget)


def _with_what_is_kept(error: EngineUnavailable) -> EngineUnavailable:
    """The same error; an actor that starts late finds an engine down as well as a stage does."""
    ends = error.hint.endswith(("?", ".", "!")) or not error.hint
    hint = f"{error.hint}{'' if ends else '.'} Finished work is kept.".strip()
    return EngineUnavailable(error.message, hint=hint, retryable=error.retryable)


def _problems_name(chain: Chain) -> str:
    return "problems" if chain.name == "synthesis" else f"{chain.name}-problems"
