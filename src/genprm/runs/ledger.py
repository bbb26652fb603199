"""What a run has done so far: totals per stage, faults, shared wall time. Small, whatever the number of problems."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from genprm.identity import Decides, content_key
from genprm.records import Dropped, Lost, StageOutput, problem_of
from genprm.runs.progress import Progress
from genprm.store import RunStore, ShardMeta, StageSummary
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.runs.stage import Chain, Stage


@dataclass
class Slice:
    """Wall time that one piece of work had, what ran at the same time having had its share."""

    seconds: float = 0.0


class SharedClock:
    """Divides wall time among the pieces of work that run at the same time, so that their seconds add up to it."""

    def __init__(self) -> None:
        self._running: list[Slice] = []
        self._since = time.perf_counter()

    @contextmanager
    def running(self) -> Iterator[Slice]:
        """A piece of work begins, and ends with the context; its slice grows meanwhile."""
        piece = Slice()
        self._tick()
        self._running.append(piece)
        try:
            yield piece
        finally:
            self._tick()
            self._running = [one for one in self._running if one is not piece]

    def _tick(self) -> None:
        now = time.perf_counter()
        for piece in self._running:
            piece.seconds += (now - self._since) / len(self._running)
        self._since = now


class Recipes:
    """Each stage's identity: what decides its rows, alone and together with all before it, apart from problems."""

    def __init__(self, chain: Chain) -> None:
        self._decides: dict[str, Decides] = {}
        self._recipes: dict[str, str] = {}
        self.add(chain.stages)

    def add(self, stages: Sequence[Stage]) -> None:
        """Know these stages, too."""
        for stage in stages:
            before = [self._recipes[need] for need in stage.needs]
            self._decides[stage.name] = stage.decides()
            self._recipes[stage.name] = content_key(stage.name, self._decides[stage.name].digest(), before)

    def decides(self, stage: str) -> Decides:
        """What decides a stage's rows."""
        return self._decides[stage]

    def recipe(self, stage: str) -> str:
        """The stage's identity, together with all before it."""
        return self._recipes[stage]


def tried(made: StageOutput[Any]) -> int:
    """The problems that a stage settled or lost.

    Those that an earlier stage dropped have nothing here, and tell nothing about whether the stage works.
    """
    settled = {problem_of(row) for row in made.rows} | {row.problem_id for row in made.dropped}
    return len(settled) + len(made.lost)


def judged(stage: str, made: StageOutput[Any], *, sound: bool) -> StageOutput[Any]:
    """What becomes of problems that a stage lost.

    Args:
        sound: whether a fault that will not pass lies in the problem itself, which then becomes a dropped row. It does if
            the stage settled any problem and the run has come to its second pass: before that, the fault may be one of
            the whole engine that began just now, such as a key that expired.
    """
    if not sound:
        return made
    lasting = [lost for lost in made.lost if not lost.retryable]
    rest = tuple(lost for lost in made.lost if lost.retryable)
    return StageOutput(made.rows, (*made.dropped, *(_dropped(lost, stage) for lost in lasting)), rest)


class Ledger:
    """Counts what a chain does. A shard counts as it was last seen until it is closed, so it may be led twice."""

    def __init__(self, chain: Chain, store: RunStore, progress: Progress) -> None:
        self.progress = progress
        self.clock = SharedClock()
        self._chain = chain
        self._store = store
        self._recipes = Recipes(chain)
        self._works: set[str] = set()
        self._settled_now: set[str] = set()
        self._lost_in_a_row: Counter[str] = Counter()
        self._last_fault: dict[str, Lost] = {}
        self._faults: Counter[tuple[str, str]] = Counter()
        self._met: dict[tuple[str, str], tuple[str, Lost]] = {}
        self._again = False
        self._totals = {stage.name: _Totals() for stage in chain.stages}

    def begin(self, total: int | None, shard_size: int) -> None:
        """Record what is about to be done: each stage's recipe stands before its first shard.

        What an earlier run left of stages that the chain has not any more moves out of the way.
        """
        planned = None if total is None else -(-total // shard_size)
        for name in self._chain.gone:
            self._store.stage(name, BaseModel).retire()
        self._reopen_later(planned)
        for stage in self._chain.stages:
            folder = self._store.stage(stage.name, stage.row_type)
            recipe, row_type = self.recipe(stage.name), stage.row_type.__name__
            known = folder.summary()
            stands = known is not None and (known.recipe, known.row_type) == (recipe, row_type)
            if known is None or not stands or not (known.complete or known.planned == planned):
                folder.write_summary(
                    StageSummary(stage=stage.name, row_type=row_type, recipe=recipe, planned=planned)
                )
            self.progress.begin(stage.name, total)

    def _reopen_later(self, planned: int | None, changed: Collection[str] = ()) -> None:
        """Stages after those that are run are not complete if what they have is of other options or of other rows.

        Args:
            changed: stages whose rows changed.
        """
        outdated = set(changed)
        stores = {stage.name: self._store.stage(stage.name, stage.row_type) for stage in self._chain.later}
        if not any(folder.folder.is_dir() for folder in stores.values()):
            return  # what a stage would be made with may be unknown as long as nobody asks for it
        self._recipes.add(self._chain.later)
        for stage in self._chain.later:
            folder = stores[stage.name]
            behind = not outdated.isdisjoint(stage.needs)
            if behind:
                outdated.add(stage.name)
            if not folder.folder.is_dir():
                continue
            known, row_type = folder.summary(), stage.row_type.__name__
            recipe = self.recipe(stage.name)
            stands = known is not None and (known.recipe, known.row_type) == (recipe, row_type)
            if known is None or not stands or behind:
                folder.write_summary(
                    StageSummary(stage=stage.name, row_type=row_type, recipe=recipe, planned=planned)
                )

    def begin_again(self, many: int) -> None:
        """A second pass begins: of the shards that it visits, only what was pending counts anew.

        Args:
            many: if so many problems are pending, an engine may be down for all. Then a stage counts as one that works
                only if it settled something just now, whatever an earlier run got from it.
        """
        self._again = True
        if self.pending() >= many:
            self._works &= self._settled_now
        self._faults.clear()
        self._lost_in_a_row.clear()

    def decides(self, stage: str) -> Decides:
        """See `Account`."""
        return self._recipes.decides(stage)

    def recipe(self, stage: str) -> str:
        """See `Account`."""
        return self._recipes.recipe(stage)

    def works(self) -> frozenset[str]:
        """The stages that have settled any problem in this run."""
        return frozenset(self._works)

    def second_pass(self) -> bool:
        """Whether what a first pass left is being tried again."""
        return self._again

    def judge(self, stage: str, made: StageOutput[Any], *, again: int) -> StageOutput[Any]:
        """See `Account`."""
        self.count(stage, made.lost, tried(made), again=again)
        return judged(stage, made, sound=self._again and stage in self._works)

    def count(self, stage: str, lost: Sequence[Lost], tried: int, *, again: int) -> None:
        """Notice faults, and when nothing is settled any more.

        Args:
            tried: problems that the stage settled or lost; `again` of them had been lost before.
        """
        if len(lost) < tried:
            self._works.add(stage)
            self._settled_now.add(stage)
            self._lost_in_a_row[stage] = 0
        elif lost:
            self._lost_in_a_row[stage] += tried - again
        for one in lost:
            self._last_fault[stage] = one
            kind = (one.reason, one.detail)
            self._faults[kind] += 1
            self._met[kind] = stage, one

    def outage(self, after: int) -> tuple[str, int, Lost] | None:
        """A stage that lost so many problems in a row that an engine is down, how many, and its last fault."""
        for stage, count in self._lost_in_a_row.items():
            if count >= after:
                return stage, count, self._last_fault[stage]
        return None

    def computed(self, stage: str, meta: ShardMeta, problems: int) -> None:
        """See `Account`."""
        self._totals[stage].add(meta, again=self._again)
        self.progress.advance(stage, problems)

    def reused(self, stage: str, meta: ShardMeta) -> None:
        """See `Account`."""
        totals = self._totals[stage]
        seen = self._again or totals.has_open(meta.number)
        totals.add(meta, again=self._again)
        if meta.rows and not self._again:
            self._works.add(stage)
        if not seen:
            self.progress.advance(stage, meta.problems - len(meta.unsettled), reused=True)

    def note(self, text: str) -> None:
        """See `Account`."""
        self.progress.note(text)

    def close(self, number: int) -> None:
        """A shard has been led through all stages."""
        for totals in self._totals.values():
            totals.close(number)

    def pending(self) -> int:
        """Problems that are not settled, in the stage that has most of them."""
        return max((totals.unsettled() for totals in self._totals.values()), default=0)

    def commonest_fault(self) -> tuple[str, Lost] | None:
        """The fault that was met most often, with a stage that met it; None if an earlier run met all."""
        return self._met[self._faults.most_common(1)[0][0]] if self._faults else None

    def finish(self) -> dict[str, StageSummary]:
        """Write every stage's summary and return them."""
        summaries = {}
        changed = set()
        for stage in self._chain.stages:
            totals = self._totals[stage.name]
            summary = totals.summary(stage.name, stage.row_type.__name__, self.recipe(stage.name))
            summaries[stage.name] = summary
            folder = self._store.stage(stage.name, stage.row_type)
            folder.end_at(summary.shards)
            known = folder.summary()
            # A store reopens a stage before it changes any of its shards.
            if known is None or not known.complete:
                changed.add(stage.name)
        if changed:
            self._reopen_later(max(summary.shards for summary in summaries.values()), changed)
        for stage in self._chain.stages:
            summary = summaries[stage.name]
            self._store.stage(stage.name, stage.row_type).write_summary(summary)
            self.progress.end(stage.name, _in_words(summary))
        return summaries


class _Totals:
    """Sums over a stage's shards. A shard that is visited twice counts as it was last seen."""

    def __init__(self) -> None:
        self._sum = StageSummary(stage="", row_type="", recipe="")
        # Shards in work are few, and so are those with pending problems, which are visited again; others are only summed.
        self._open: dict[int, ShardMeta] = {}

    def has_open(self, number: int) -> bool:
        return number in self._open

    def add(self, meta: ShardMeta, *, again: bool) -> None:
        if again and meta.number not in self._open:
            return  # it was settled, and summed, when it was first visited
        self._open[meta.number] = meta

    def close(self, number: int) -> None:
        meta = self._open.get(number)
        if meta is not None and not meta.unsettled:
            del self._open[number]
            self._sum = _plus(self._sum, meta)

    def unsettled(self) -> int:
        return sum(len(meta.unsettled) for meta in self._open.values())

    def summary(self, stage: str, row_type: str, recipe: str) -> StageSummary:
        total = self._sum
        for meta in self._open.values():
            total = _plus(total, meta)
        return total.model_copy(
            update={
                "stage": stage,
                "row_type": row_type,
                "recipe": recipe,
                "pending": self.unsettled(),
                "complete": not self.unsettled(),
                "reasons": dict(sorted(total.reasons.items())),
            }
        )


def _plus(total: StageSummary, meta: ShardMeta) -> StageSummary:
    reasons = dict(total.reasons)
    for reason, count in meta.reasons.items():
        reasons[reason] = reasons.get(reason, 0) + count
    return total.model_copy(
        update={
            "shards": total.shards + 1,
            "problems": total.problems + meta.problems,
            "rows": total.rows + meta.rows,
            "dropped": total.dropped + meta.dropped,
            "reasons": reasons,
            "usage": total.usage + meta.usage,
            "seconds": total.seconds + meta.seconds,
        }
    )


def _dropped(lost: Lost, stage: str) -> Dropped:
    kind = "sandbox_failed" if lost.reason.startswith("Sandbox") else "engine_failed"
    return Dropped(
        item_id=lost.problem_id,
        problem_id=lost.problem_id,
        stage=stage,
        reason=kind,
        detail=f"{lost.reason}: {lost.detail}",
        usage=lost.usage,
    )


def _in_words(summary: StageSummary) -> str:
    parts = [counted(summary.rows, "row")]
    if summary.dropped:
        parts.append(f"{summary.dropped:,} dropped")
    if summary.pending:
        parts.append(f"{summary.pending:,} pending")
    spent = summary.usage
    if spent.completion_tokens or spent.uncounted:
        parts.append(f"{'at least ' if spent.uncounted else ''}{counted(spent.completion_tokens, 'token')}")
    return ", ".join(parts) + f", {summary.seconds:.1f} s"
