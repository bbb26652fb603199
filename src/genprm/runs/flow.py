"""One shard's way through a chain of stages: what is there is read, what is missing is computed, what fits is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import BaseModel

from genprm.identity import Decides, rows_digest, shard_key
from genprm.records import StageOutput, problem_of
from genprm.runs.ledger import SharedClock
from genprm.runs.resources import Resources
from genprm.runs.stage import Shard, Stage, problems_key, restrict
from genprm.store import Mirror, ShardMeta, ShardRows, StageStore


class Account(Protocol):
    """What a shard's way needs to know of the run, and where it reports what it did."""

    clock: SharedClock

    def decides(self, stage: str) -> Decides:
        """What decides a stage's rows."""
        ...

    def recipe(self, stage: str) -> str:
        """The stage's identity, together with all before it, apart from problems."""
        ...

    def judge(self, stage: str, made: StageOutput[Any], *, again: int) -> StageOutput[Any]:
        """Decide what becomes of lost problems.

        Args:
            again: of the problems that the stage was given, those that had been lost before.
        """
        ...

    def computed(self, stage: str, meta: ShardMeta, problems: int) -> None:
        """A shard was written; `problems` of it were computed now."""
        ...

    def reused(self, stage: str, meta: ShardMeta) -> None:
        """A shard of an earlier run stands."""
        ...

    def note(self, text: str) -> None:
        """Something that a user should know."""
        ...


@dataclass
class _State:
    """What a stage holds for the shard; rows are read when they are first needed."""

    store: StageStore[Any]
    meta: ShardMeta
    _rows: tuple[BaseModel, ...] | None = None

    @property
    def rows(self) -> tuple[BaseModel, ...]:
        if self._rows is None:
            self._rows = self.store.rows(self.meta)
        return self._rows

    def content_without(self, problems: frozenset[str]) -> str:
        """Digest of the rows, those of some problems left out."""
        if not problems:
            return self.meta.content
        return rows_digest([row for row in self.rows if problem_of(row) not in problems])


@dataclass
class _Way:
    """A shard on its way."""

    shard: Shard
    keys: dict[str, str] = field(default_factory=dict)
    states: dict[str, _State] = field(default_factory=dict)


class ShardFlow:
    """Leads shards through a chain. Stateless between shards but for what the account counts.

    Args:
        stores: by stage.
        mirror: where shards that the stores lack are looked for, and new ones are copied to.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        stores: Mapping[str, StageStore[Any]],
        resources: Resources,
        account: Account,
        mirror: Mirror | None = None,
    ) -> None:
        self._stages = tuple(stages)
        self._resources = resources
        self._account = account
        self._mirror = mirror
        self._stores = stores
        self._root = self._stages[0].name

    async def lead(self, shard: Shard) -> bool:
        """Complete every stage for the shard; whether all its problems are settled in all of them."""
        way = _Way(shard)
        for stage in self._stages:
            await self._complete(stage, way)
            if stage.name == self._root:
                way.shard = replace(
                    shard, problems=tuple(one for one in shard.problems if one.left_out is None)
                )
        for stage in self._stages:
            self._stores[stage.name].keep_only(shard.number, way.keys[stage.name])
        return not any(state.meta.unsettled for state in way.states.values())

    async def _complete(self, stage: Stage, way: _Way) -> None:
        store, number = self._stores[stage.name], way.shard.number
        key = way.keys[stage.name] = self._key(stage, way)
        old = store.find(number, key)
        if old is None and self._mirror is not None and await self._mirror.fetch(store, number, key):
            old = store.find(number, key)
        revision = 0
        if old is not None and not self._fits(stage, old, way):
            self._account.note(
                f"stage '{stage.name}', shard {number}: an earlier stage was computed anew and says "
                "something else; it is computed again"
            )
            revision, old = old.revision + 1, None  # a mirror's readers take the highest
        upstream = frozenset[str]().union(*(way.states[need].meta.unsettled for need in stage.needs))
        ids = [problem.id for problem in way.shard.problems]
        open_ = [one for one in ids if one not in upstream and (old is None or one in old.unsettled)]
        if old is not None and not open_:
            way.states[stage.name] = _State(store, old)
            self._account.reused(stage.name, old)
            return
        way.states[stage.name] = await self._compute(stage, way, key, old, open_, revision)

    async def _compute(
        self,
        stage: Stage,
        way: _Way,
        key: str,
        old: ShardMeta | None,
        ids: Sequence[str],
        revision: int,
    ) -> _State:
        """Run the stage on some of the shard's problems and write them together with those that it had.

        Args:
            revision: of what is written, if nothing is taken over from `old`.
        """
        store, shard = self._stores[stage.name], way.shard
        rows = {need: way.states[need].rows for need in stage.needs}
        given = restrict(Shard(shard.number, shard.problems, rows), ids)
        with self._account.clock.running() as time:
            made = await stage.run(given, self._resources) if ids else StageOutput(())
        lost_before = {lost.problem_id for lost in old.pending} if old is not None else set()
        made = self._account.judge(stage.name, made, again=len(lost_before.intersection(ids)))
        kept = store.rows(old) if old is not None else ()
        dropped = store.dropped(old) if old is not None else ()
        upstream = frozenset[str]().union(*(way.states[need].meta.unsettled for need in stage.needs))
        order = {problem.id: place for place, problem in enumerate(shard.problems)}
        merged = ShardRows(
            rows=sorted([*kept, *made.rows], key=lambda row: order[problem_of(row)]),
            dropped=sorted([*dropped, *made.dropped], key=lambda row: order[row.problem_id]),
            pending=made.lost,
            waiting=[problem.id for problem in shard.problems if problem.id in upstream],
        )
        unsettled = frozenset({*merged.waiting, *(lost.problem_id for lost in made.lost)})
        meta = store.write(
            shard.number,
            key,
            merged,
            recipe=self._account.recipe(stage.name),
            problems=len(shard.problems),
            seconds=time.seconds + (old.seconds if old is not None else 0.0),
            inputs={need: way.states[need].content_without(unsettled) for need in stage.needs},
            revision=old.revision + 1 if old is not None else revision,
        )
        if self._mirror is not None:
            await self._mirror.send(store, meta)
        self._account.computed(stage.name, meta, len(ids))
        return _State(store, meta, tuple(merged.rows))

    def _key(self, stage: Stage, way: _Way) -> str:
        if stage.name == self._root:
            return problems_key(way.shard.problems)
        parents = [way.keys[need] for need in stage.needs] or [way.keys[self._root]]
        return shard_key(stage.name, self._account.decides(stage.name), parents)

    def _fits(self, stage: Stage, meta: ShardMeta, way: _Way) -> bool:
        """Whether the rows were made from what the earlier stages say now.

        They may say something else although their keys are the same: a shard that was lost and made again by
        an engine whose answers vary.
        """
        return all(
            meta.inputs.get(need) == way.states[need].content_without(meta.unsettled)
            for need in stage.needs
        )
