"""What the files of a stage say about its shards, and about the stage as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genprm.errors import StoreError
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
        seal: over all other fields that its file has.
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
        return self.model_copy(update={"seal": _seal_of(self.model_dump(mode="json"))})


def read_meta(path: Path) -> dict[str, Any]:
    """The fields of a meta file, whatever version of genprm wrote them.

    Raises:
        StoreError: it cannot be read, or was changed since it was sealed; the message says which.
    """
    try:
        return sealed_fields(path.read_bytes())
    except OSError:
        raise StoreError("its meta file cannot be read") from None


def sealed_fields(data: bytes) -> dict[str, Any]:
    """The fields of a meta file, from its bytes. See `read_meta`."""
    try:
        found = json.loads(data)
        seal = _seal_of(found) if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        seal = None
    if seal is None:
        raise StoreError("its meta file cannot be read")
    if found.get("seal") != seal:
        raise StoreError("its meta file was changed")
    return dict(found)


def as_meta(fields: Mapping[str, Any], path: Path) -> ShardMeta:
    """A shard's meta from the fields of its file; what an earlier version did not write has its default.

    Raises:
        StoreError: the fields are those of another version, which this one cannot read.
    """
    try:
        return ShardMeta.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{path} was written by another version of genprm: {place}: {first['msg']}",
            hint="Go on with the version of genprm that made the run, or choose another directory with --run-dir.",
        ) from None


def _seal_of(fields: Mapping[str, Any]) -> str:
    """The seal of a meta, over what stands in its file: fields that a later version adds do not change it."""
    return content_key({name: value for name, value in fields.items() if name != "seal"})


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
