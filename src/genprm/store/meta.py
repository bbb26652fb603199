"""What the files of a stage say about its shards, and about the stage as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from genprm.identity import content_key
from genprm.records import Dropped, Lost, Usage
from genprm.store.tables import Format

RecordT = TypeVar("RecordT", bound=BaseModel)


class ShardMeta(BaseModel):
    """What a shard holds.

    Attributes:
        key: from `genprm.identity.shard_key`.
        recipe: what the key is made of apart from problems; equal for all current shards of the stage.
        problems: how many problems the shard has.
        dropped: dropped items, by their counts; `reasons` counts them by reason.
        pending: problems that this stage lost to a fault that may pass.
        waiting: problems that an earlier stage has not settled.
        seconds: wall time; what ran at the same time shares it.
        content: digest of what the rows say, whatever they cost.
        inputs: by stage, the `content` of the rows that these rows were made from.
        seal: over all other fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    number: int
    key: str
    recipe: str
    problems: int
    rows: int
    dropped: int
    reasons: dict[str, int]
    pending: tuple[Lost, ...] = ()
    waiting: tuple[str, ...] = ()
    usage: Usage
    seconds: float
    format: Format
    rows_checksum: str
    dropped_checksum: str
    content: str
    inputs: dict[str, str] = Field(default_factory=dict)
    revision: int = 0
    seal: str = ""

    @property
    def unsettled(self) -> frozenset[str]:
        """Ids of the problems that are not settled."""
        return frozenset({*self.waiting, *(lost.problem_id for lost in self.pending)})

    def sealed(self) -> ShardMeta:
        """The meta with its seal."""
        return self.model_copy(update={"seal": self._seal()})

    @property
    def intact(self) -> bool:
        """Whether no field was changed since it was sealed."""
        return self.seal == self._seal()

    def _seal(self) -> str:
        return content_key(self.model_dump(mode="json", exclude={"seal"}))


class StageSummary(BaseModel):
    """A stage as a whole. Before its first end only `stage`, `row_type`, `recipe` and `planned` count.

    Attributes:
        shards: how many there are.
        planned: how many there will be at most, if that is known before they are there.
        pending: problems not settled, waiting ones included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    row_type: str
    recipe: str
    complete: bool = False
    shards: int = 0
    planned: int | None = None
    problems: int = 0
    rows: int = 0
    dropped: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    pending: int = 0
    usage: Usage = Usage()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ShardRows(Generic[RecordT]):
    """A shard's content before it is written."""

    rows: Sequence[RecordT]
    dropped: Sequence[Dropped] = ()
    pending: Sequence[Lost] = ()
    waiting: Sequence[str] = ()
