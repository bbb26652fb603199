"""What a driver and its actors say to each other. All of it pickles and is small: shards, metas, sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genprm.config import RunConfig
from genprm.errors import GenPRMError
from genprm.records import Lost
from genprm.runs.stage import Chain
from genprm.store import Format, ShardMeta


@dataclass(frozen=True)
class Order:
    """What an actor is to do for a run of a chain.

    Attributes:
        actor: its name in the mandate.
        decides: by stage, the digest of what decides its rows, as the driver sees it.
        config: of the run, with the actor's share of `concurrency`.
        folder: the driver's working directory.
        run: the run directory, absolute.
        mandate: the file under which it may write there.
        mirror: URL of the run's mirror. With one an actor works in a folder of its own, and all that it makes goes there.
    """

    actor: str
    chain: Chain
    decides: dict[str, str]
    config: RunConfig
    folder: Path
    run: Path
    mandate: Path
    mirror: str | None
    format: Format


@dataclass(frozen=True)
class Ready:
    """An actor can work.

    Attributes:
        place: node and process, for messages.
    """

    place: str


@dataclass(frozen=True)
class Judged:
    """A stage settled or lost `tried` problems, `again` of which had been lost before."""

    stage: str
    lost: tuple[Lost, ...]
    tried: int
    again: int


@dataclass(frozen=True)
class Computed:
    """A shard was written; `problems` of it were computed now."""

    stage: str
    meta: ShardMeta
    problems: int


@dataclass(frozen=True)
class Reused:
    """A shard of an earlier run stands."""

    stage: str
    meta: ShardMeta


@dataclass(frozen=True)
class Noted:
    """Something that a user should know."""

    text: str


@dataclass(frozen=True)
class Repaired:
    """A damage that is being repaired."""

    text: str


@dataclass(frozen=True)
class Led:
    """The end: the shard is through all stages; whether all its problems are settled in all of them."""

    settled: bool


@dataclass(frozen=True)
class Failed:
    """The end: a stage cannot work, or the store."""

    error: GenPRMError


Event = Judged | Computed | Reused | Noted | Repaired | Led | Failed
