"""Run directories. No other module touches one.

    RUN/
      config.yaml            the resolved config
      run.json               versions, seed, git commit
      run.lock               held while a process works on the run
      stages/STAGE/KEY.json          a finished shard: counts, usage, seconds, checksum (written last)
      stages/STAGE/KEY.rows.jsonl    its rows (or .parquet)
      stages/STAGE/KEY.dropped.jsonl what was not passed on, with reasons
      stages/STAGE/stage.json        the stage's shards in order, and their sums, once all are there
      artifacts/NAME/KEY/            trained models and the like

A shard's key is a hash of its items and of everything that decides what the stage makes of them. So
a run that is killed and started again finds its finished shards by content, a changed option
recomputes exactly the stages that it affects, and no row can appear twice.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from genprm.errors import StoreError
from genprm.records import Dropped, StageOutput, Usage
from genprm.store.files import encode_jsonl, read_json, store_errors, write_atomic, write_json
from genprm.store.tables import Format, decode_rows, encode_rows

RecordT = TypeVar("RecordT", bound=BaseModel)


class ShardMeta(BaseModel):
    """What a finished shard holds. `seconds` is wall time; `reasons` counts dropped rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    items: int
    rows: int
    dropped: int
    reasons: dict[str, int]
    usage: Usage
    seconds: float
    format: Format
    checksum: str


class StageSummary(BaseModel):
    """The sums over a stage's shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    shards: tuple[str, ...]
    items: int
    rows: int
    dropped: int
    reasons: dict[str, int]
    usage: Usage
    seconds: float


class StageStore(Generic[RecordT]):
    """The shards of one stage."""

    def __init__(self, folder: Path, name: str, row_type: type[RecordT], format: Format) -> None:
        self.folder = folder
        self.name = name
        self.row_type = row_type
        self.format: Format = format

    def find(self, key: str) -> ShardMeta | None:
        """The finished shard with this key; None where there is none or its files are damaged."""
        path = self.folder / f"{key}.json"
        if not path.exists():
            return None
        try:
            meta = ShardMeta.model_validate(read_json(path))
            rows = self._rows_path(meta).read_bytes()
        except (StoreError, ValidationError, OSError):
            return None
        return meta if _checksum(rows) == meta.checksum else None

    def write(self, key: str, items: int, output: StageOutput[RecordT], seconds: float) -> ShardMeta:
        """Write a shard; it counts as finished from the moment its meta file is in place."""
        rows = encode_rows(output.rows, self.format)
        everything: list[BaseModel] = [*output.rows, *output.dropped]
        usage = sum((_usage(row) for row in everything), Usage())
        meta = ShardMeta(
            key=key,
            items=items,
            rows=len(output.rows),
            dropped=sum(drop.count for drop in output.dropped),
            reasons=_reasons(output.dropped),
            usage=usage,
            seconds=seconds,
            format=self.format,
            checksum=_checksum(rows),
        )
        write_atomic(self._rows_path(meta), rows)
        write_atomic(self.folder / f"{key}.dropped.jsonl", encode_jsonl(output.dropped))
        write_json(self.folder / f"{key}.json", meta)
        return meta

    def rows(self, meta: ShardMeta) -> list[RecordT]:
        """The rows of a finished shard."""
        path = self._rows_path(meta)
        with store_errors(path, "read"):
            data = path.read_bytes()
        try:
            return decode_rows(data, self.row_type, meta.format)
        except ValidationError as error:
            raise StoreError(
                f"{path} holds rows of another version of genprm: {error.errors()[0]['msg']}",
                hint="Delete the stage's folder and run again.",
            ) from None

    def dropped(self, meta: ShardMeta) -> list[Dropped]:
        """What a finished shard did not pass on."""
        path = self.folder / f"{meta.key}.dropped.jsonl"
        with store_errors(path, "read"):
            data = path.read_bytes()
        return decode_rows(data, Dropped, "jsonl")

    def finish(self, metas: Sequence[ShardMeta]) -> StageSummary:
        """Record the stage as complete and return the sums."""
        summary = StageSummary(
            stage=self.name,
            shards=tuple(meta.key for meta in metas),
            items=sum(meta.items for meta in metas),
            rows=sum(meta.rows for meta in metas),
            dropped=sum(meta.dropped for meta in metas),
            reasons=dict(sorted(sum((Counter(meta.reasons) for meta in metas), Counter()).items())),
            usage=sum((meta.usage for meta in metas), Usage()),
            seconds=sum(meta.seconds for meta in metas),
        )
        write_json(self.folder / "stage.json", summary)
        return summary

    def summary(self) -> StageSummary | None:
        """The sums of a complete stage, or None."""
        path = self.folder / "stage.json"
        return StageSummary.model_validate(read_json(path)) if path.exists() else None

    def all_rows(self) -> Iterator[RecordT]:
        """Every row of a complete stage, in order, one shard in memory at a time."""
        summary = self.summary()
        if summary is None:
            raise StoreError(
                f"the stage '{self.name}' is not complete in {self.folder.parent.parent}",
                hint=f"Run 'genprm run CONFIG --until {self.name}' first.",
            )
        for key in summary.shards:
            meta = self.find(key)
            if meta is None:
                raise StoreError(
                    f"shard {key} of the stage '{self.name}' is missing or damaged",
                    hint="Run the stage again; only this shard is computed anew.",
                )
            yield from self.rows(meta)

    def _rows_path(self, meta: ShardMeta) -> Path:
        return self.folder / f"{meta.key}.rows.{meta.format}"


class RunStore:
    """One run directory, locked for this process while open. A context manager."""

    def __init__(self, path: Path, *, format: Format = "jsonl") -> None:
        self.path = path
        self.format: Format = format
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunStore:
        with store_errors(self.path, "create"):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "run.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise StoreError(
                f"another process works on the run directory {self.path}",
                hint="Wait for it, or choose another directory with --run-dir.",
            ) from None
        self._lock = lock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def describe(self, config_yaml: str, facts: dict[str, Any]) -> None:
        """Write the resolved config and the run's facts."""
        write_atomic(self.path / "config.yaml", config_yaml.encode())
        write_json(self.path / "run.json", facts)

    def stage(self, name: str, row_type: type[RecordT]) -> StageStore[RecordT]:
        """The shards of the stage `name`."""
        return StageStore(self.path / "stages" / name, name, row_type, self.format)

    def summaries(self) -> list[StageSummary]:
        """The sums of every complete stage, in the order of their names."""
        files = sorted((self.path / "stages").glob("*/stage.json"))
        return [StageSummary.model_validate(read_json(file)) for file in files]

    def artifact(self, name: str, key: str) -> Path:
        """A folder for what is not rows, such as a trained model; made on demand."""
        folder = self.path / "artifacts" / name / key
        with store_errors(folder, "create"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file at the top of the run directory and return its path."""
        path = self.path / name
        write_json(path, value)
        return path


def _usage(row: BaseModel) -> Usage:
    usage = getattr(row, "usage", None)
    return usage if isinstance(usage, Usage) else Usage()


def _reasons(dropped: Sequence[Dropped]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for drop in dropped:
        counts[drop.reason] += drop.count
    return dict(sorted(counts.items()))


def _checksum(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
