"""The stage protocol: what a run is made of.

A stage is a frozen, picklable dataclass. It is given one shard at a time, a few dozen problems with the rows that
earlier stages made for them, and the run's resources; it answers with rows, with what it dropped, and with the
problems that it lost to a fault which may pass. It knows nothing of stores, of other shards, or of who executes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from pydantic import BaseModel

from genprm.config import SandboxConfig
from genprm.identity import Decides, content_key
from genprm.records import Problem, StageOutput

if TYPE_CHECKING:
    from genprm.runs.resources import Resources

RowT = TypeVar("RowT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Shard:
    """Some consecutive problems of a run, and the rows that stages made for them.

    Attributes:
        number: the shard's place in the run, from 0.
        problems: in the run's order.
        rows: by stage; every row has a `problem_id` among the problems.
    """

    number: int
    problems: tuple[Problem, ...]
    rows: Mapping[str, tuple[BaseModel, ...]] = field(default_factory=dict)

    def of(self, stage: str, row_type: type[RowT]) -> tuple[RowT, ...]:
        """The rows of a stage that was named in `needs`."""
        rows = self.rows[stage]
        assert all(isinstance(row, row_type) for row in rows)
        return cast("tuple[RowT, ...]", rows)

    def by_problem(self, stage: str, row_type: type[RowT]) -> list[tuple[Problem, tuple[RowT, ...]]]:
        """Every problem with its rows of a stage, in order; problems without rows are left out."""
        grouped: dict[str, list[RowT]] = {}
        for row in self.of(stage, row_type):
            grouped.setdefault(row.problem_id, []).append(row)  # type: ignore[attr-defined]
        return [(problem, tuple(grouped[problem.id])) for problem in self.problems if problem.id in grouped]


@runtime_checkable
class Stage(Protocol):
    """One step of a run. Implementations are frozen dataclasses that pickle (`genprm.runs.stages`)."""

    @property
    def name(self) -> str:
        """The stage's folder in the run directory."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose rows it reads; the shard's problems are always there."""
        ...

    @property
    def row_type(self) -> type[BaseModel]:
        """The record that it makes."""
        ...

    def decides(self) -> Decides:
        """Everything, apart from the shard, that decides its rows."""
        ...

    async def run(self, shard: Shard, resources: Resources) -> StageOutput[Any]:
        """Rows for these problems, in their order.

        A problem that was lost to an engine or sandbox fault is in `StageOutput.lost` and has no rows.

        Raises:
            GenPRMError: the stage cannot work at all (a wrong option, no such model).
        """
        ...


@dataclass(frozen=True)
class Chain:
    """Stages in order; each needs stages before it.

    Attributes:
        name: names the chain's shards among those of other chains in one run directory.
        later: stages that come after these and are not run now; an earlier run may have left rows of them.
        gone: stages that this chain has with other options; what an earlier run left of them is not current.
    """

    name: str
    stages: tuple[Stage, ...]
    later: tuple[Stage, ...] = ()
    gone: tuple[str, ...] = ()

    def until(self, stage: str) -> Chain:
        """The chain up to and including a stage."""
        end = [one.name for one in self.stages].index(stage) + 1
        return replace(self, stages=self.stages[:end], later=(*self.stages[end:], *self.later))


def problems_key(problems: Sequence[Problem]) -> str:
    """The key of a shard's problems, from which all its keys are made.

    Of those that are left out ids and reasons count, not the words that say where an evaluation set has them.
    """
    kept = [problem for problem in problems if problem.left_out is None]
    out = [[problem.id, problem.left_out[0]] for problem in problems if problem.left_out is not None]
    return content_key(kept, out) if out else content_key(kept)


def restrict(shard: Shard, problems: Sequence[str]) -> Shard:
    """The shard with these problems and their rows alone."""
    wanted = set(problems)
    return Shard(
        shard.number,
        tuple(problem for problem in shard.problems if problem.id in wanted),
        {
            stage: tuple(row for row in rows if row.problem_id in wanted)  # type: ignore[attr-defined]
            for stage, rows in shard.rows.items()
        },
    )


def without_profile(options: BaseModel) -> dict[str, Any]:
    """A section without the name of its prompt profile, whose content is what decides, and without examples to keep,
    which change no row.
    """
    return options.model_dump(mode="json", exclude={"profile", "keep_examples"})


def sandbox_facts(config: SandboxConfig) -> dict[str, Any]:
    """What of a sandbox's config decides the rows: packages and limits, not how many boxes there are."""
    return config.model_dump(mode="json", include={"tier", "soft_seconds", "hard_seconds", "memory_mb"})
