"""What a stage makes of the problems that it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from pydantic import Field

from genprm.records.base import Part, Record, RowT, Usage


class Example(Part):
    """A text behind a `Dropped` row.

    Attributes:
        id: of the sample: `PROBLEM/INDEX`, as a solution's.
        text: what the model wrote; the middle of a long text is cut out, with a mark.
    """

    id: str
    text: str


class Dropped(Record):
    """What a stage did not pass on, with the reason that the reports count.

    Attributes:
        item_id: the item that the stage was given (a problem's or a solution's id).
        problem_id: the problem that it belongs to.
        count: how many things the row stands for: the item itself, or so many samples drawn for it,
            where `reason` starts with `sample_`.
        examples: some of their texts, if they have any: a few for each reason in a shard.
        usage: what they cost; what a stage kept carries its own cost.
    """

    item_id: str
    problem_id: str
    stage: str
    reason: str
    detail: str = ""
    count: int = Field(default=1, ge=1)
    examples: tuple[Example, ...] = ()
    usage: Usage = Usage()


class Lost(Part):
    """A problem that a stage could not settle because an engine or a sandbox failed.

    Attributes:
        reason: the fault's kind, for example `EngineTimeout`.
        detail: its message.
        retryable: whether a later try may succeed without a change.
        usage: what was spent on it in vain.
    """

    problem_id: str
    reason: str
    detail: str = ""
    retryable: bool = True
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class StageOutput(Generic[RowT]):
    """What a stage made of a batch of problems.

    Attributes:
        rows: for the next stages.
        dropped: every row that the stage did not pass on.
        lost: problems that a fault kept from being settled; they have neither rows nor dropped rows.
    """

    rows: tuple[RowT, ...]
    dropped: tuple[Dropped, ...] = ()
    lost: tuple[Lost, ...] = ()
