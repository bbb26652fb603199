"""The shards of one stage: written atomically, found by key, checked down to the last byte.

    stages/STAGE/NUMBER-KEY.json           meta: counts, costs, checksums of everything (written last)
    stages/STAGE/NUMBER-KEY.rows.jsonl     its rows (or .parquet)
    stages/STAGE/NUMBER-KEY.dropped.jsonl  what was not passed on, with reasons
    stages/STAGE/stage.json                the stage's recipe and, once all shards are there, its totals
    superseded/STAGE/...                   shards of earlier options, kept in case they come back

The folder `stages/STAGE` holds current rows only: when a shard is settled, shards of the same number under another key
move to `superseded`, and come back from there if the old options do.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from genprm.errors import StoreError
from genprm.identity import rows_digest
from genprm.records import Dropped, Usage
from genprm.store.files import checksum, encode_jsonl, read_json, store_errors, write_atomic, write_json
from genprm.store.meta import ShardMeta, ShardRows, StageSummary, as_meta, read_meta, sealed_fields
from genprm.store.names import files_of, listed, shard_paths, shard_stem
from genprm.store.tables import Format, decode_rows, encode_rows

RecordT = TypeVar("RecordT", bound=BaseModel)
AnyRecordT = TypeVar("AnyRecordT", bound=BaseModel)


class StageStore(Generic[RecordT]):
    """The shards of one stage.

    Args:
        run: the run directory.
        on_repair: called with every damage found, in one sentence.
        guard: called before shards are changed; raises if this process may not.
    """

    def __init__(
        self,
        run: Path,
        name: str,
        row_type: type[RecordT],
        format: Format = "jsonl",
        on_repair: Callable[[str], None] = lambda _: None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = run / "stages" / name
        self.superseded = run / "superseded" / name
        self.name = name
        self.row_type = row_type
        self.format: Format = format
        self._on_repair = on_repair
        self._guard = guard
        self._earlier: dict[int, list[str]] | None = None
        self._damaged: set[str] = set()
        self._changes = False

    def find(self, number: int, key: str) -> ShardMeta | None:
        """The shard of this number and key; None if there is none, or if it is damaged (which is reported).

        Raises:
            StoreError: another version of genprm wrote it.
        """
        stem = shard_stem(number, key)
        if not (self.folder / f"{stem}.json").exists() and (self.superseded / f"{stem}.json").exists():
            self._move(stem, self.superseded, self.folder)
        if not (self.folder / f"{stem}.json").exists():
            return None
        meta, damage = self._check(stem)
        if damage:
            self._damaged.add(stem)
            self._on_repair(f"stage '{self.name}', shard {number}: {damage}; it is computed again")
            return None
        return meta

    def write(
        self,
        number: int,
        key: str,
        made: ShardRows[RecordT],
        *,
        recipe: str,
        problems: int,
        seconds: float,
        inputs: dict[str, str] | None = None,
        revision: int = 0,
    ) -> ShardMeta:
        """Write a shard; it counts from the moment its meta file is in place.

        Args:
            revision: 1, 2, ... for a shard to which settled problems are added; files of the revision before are
                removed afterwards, so that a kill leaves one or the other.
        """
        self._guard()
        self._reopen()
        rows = encode_rows(made.rows, self.format)
        dropped = encode_jsonl(made.dropped)
        everything: list[Any] = [*made.rows, *made.dropped, *made.pending]
        meta = ShardMeta(
            stage=self.name,
            number=number,
            key=key,
            recipe=recipe,
            problems=problems,
            rows=len(made.rows),
            dropped=sum(drop.count for drop in made.dropped),
            reasons=_reasons(made.dropped),
            pending=tuple(made.pending),
            waiting=tuple(made.waiting),
            usage=sum((_usage(row) for row in everything), Usage()),
            seconds=seconds,
            format=self.format,
            rows_checksum=checksum(rows),
            dropped_checksum=checksum(dropped),
            content=rows_digest(made.rows),
            inputs=inputs or {},
            revision=revision,
        ).sealed()
        # A disk takes a while to settle a folder: once, with the meta file, is enough for all three.
        rows_path, dropped_path, meta_path = shard_paths(self.folder, meta)
        write_atomic(rows_path, rows, settle=False)
        write_atomic(dropped_path, dropped, settle=False)
        self._guard()
        write_json(meta_path, meta)
        stem = shard_stem(number, key)
        if revision or stem in self._damaged:
            self._remove_others(meta)
            self._damaged.discard(stem)
        return meta

    def rows(self, meta: ShardMeta) -> tuple[RecordT, ...]:
        """The rows of a shard."""
        path = shard_paths(self.folder, meta)[0]
        with store_errors(path, "read"):
            data = path.read_bytes()
        return self._decoded(data, self.row_type, meta.format, path)

    def dropped(self, meta: ShardMeta) -> tuple[Dropped, ...]:
        """What a shard did not pass on."""
        path = shard_paths(self.folder, meta)[1]
        with store_errors(path, "read"):
            data = path.read_bytes()
        return self._decoded(data, Dropped, "jsonl", path)

    def _decoded(
        self, data: bytes, row_type: type[AnyRecordT], format: Format, path: Path
    ) -> tuple[AnyRecordT, ...]:
        try:
            return tuple(decode_rows(data, row_type, format))
        except ValidationError as error:
            raise StoreError(
                f"{path} holds rows of another version of genprm: {error.errors()[0]['msg']}",
                hint="Delete the stage's folder and run again.",
            ) from None

    def keep_only(self, number: int, key: str | None) -> None:
        """Move shards of this number that an earlier run left under other keys out of the way."""
        wanted = None if key is None else shard_stem(number, key)
        for stem in self._from_earlier_runs().pop(number, ()):
            if stem != wanted:
                self._move(stem, self.folder, self.superseded)

    def end_at(self, shards: int) -> None:
        """Move shards from this number on out of the way: the run has fewer problems than an earlier one."""
        for number in [number for number in self._from_earlier_runs() if number >= shards]:
            self.keep_only(number, None)

    def retire(self) -> None:
        """Move all shards out of the way, and forget the stage: the run has none of this name any more."""
        self.end_at(0)
        with store_errors(self.folder, "tidy"):
            (self.folder / "stage.json").unlink(missing_ok=True)

    def summary(self) -> StageSummary | None:
        """What `stage.json` says; None if the stage was never begun, or if the file is damaged (which is reported)."""
        path = self.folder / "stage.json"
        if not path.exists():
            return None
        try:
            found = StageSummary.model_validate(read_json(path))
        except (StoreError, ValidationError):
            found = None
        if found is None or found.stage != self.name:
            self._on_repair(
                f"stage '{self.name}': its stage.json is damaged, or of another version; it is written anew"
            )
            return None
        return found

    def write_summary(self, summary: StageSummary) -> None:
        """Write `stage.json`."""
        write_json(self.folder / "stage.json", summary)
        self._changes = False

    def _reopen(self) -> None:
        """The stage is not complete while its shards change: nobody takes old totals for those of new rows."""
        if not self._changes:
            self._changes = True
            known = self.summary()
            if known is not None and known.complete:
                self.write_summary(
                    StageSummary(
                        stage=self.name,
                        row_type=known.row_type,
                        recipe=known.recipe,
                        planned=known.shards,
                    )
                )

    def peek(self, number: int, key: str) -> ShardMeta | None:
        """What `find` would find, without moving or reporting anything; rows are not checked.

        Raises:
            StoreError: another version of genprm wrote it.
        """
        for folder in (self.folder, self.superseded):
            path = folder / f"{shard_stem(number, key)}.json"
            try:
                fields = read_meta(path)
            except StoreError:
                continue
            return as_meta(fields, path)
        return None

    def all(self) -> Iterator[ShardMeta]:
        """Metas of all shards, superseded ones too, but not those of other versions; their rows are not checked."""
        for folder in (self.folder, self.superseded):
            for number, stems in sorted(listed(folder).items()):
                for stem in stems:
                    with suppress(StoreError):
                        meta = self.peek(number, stem.partition("-")[2])
                        if meta is not None:
                            yield meta

    def pack(self, meta: ShardMeta) -> bytes | None:
        """A shard's three files as one ZIP file, for `unpack`; None if they are not there whole, in this revision.

        Nothing is moved or reported: another process may have the shard in work. It may be a superseded one.
        """
        for folder in (self.folder, self.superseded):
            paths = shard_paths(folder, meta)
            try:
                files = {path.name: path.read_bytes() for path in paths}
                seal = sealed_fields(files[paths[-1].name])["seal"]
            except (OSError, StoreError):
                continue
            if seal == meta.seal and _is_whole(meta, files):
                buffer = io.BytesIO()
                with zipfile.ZipFile(buffer, "w") as packed:
                    for name, content in files.items():
                        packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
                return buffer.getvalue()
        return None

    def unpack(self, number: int, key: str, data: bytes) -> bool:
        """Put a packed shard in place; False, and nothing is changed, if it is not this shard whole and unchanged.

        Raises:
            StoreError: another version of genprm wrote it.
        """
        stem = shard_stem(number, key)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                contents = {name: packed.read(name) for name in packed.namelist()}
            fields = sealed_fields(contents[f"{stem}.json"])
        except Exception:  # a damaged byte may ask for a password, or for another compression
            return False
        meta = as_meta(fields, self.folder / f"{stem}.json")
        if (
            meta.stage != self.name
            or shard_stem(meta.number, meta.key) != stem
            or not _is_whole(meta, contents)
        ):
            return False
        self._guard()
        self._reopen()
        for path in shard_paths(self.folder, meta):
            write_atomic(path, contents[path.name], settle=path.suffix == ".json")
        self._remove_others(meta)
        self._damaged.discard(stem)
        return True

    def current(self, recipe: str, numbers: Collection[int] | None = None) -> Iterator[ShardMeta]:
        """Metas of the shards made by this recipe, in order; damaged ones are passed over.

        Args:
            numbers: the shards to look at, in place of all.

        Raises:
            StoreError: another version of genprm wrote one.
        """
        for number, stems in sorted(listed(self.folder).items()):
            if numbers is not None and number not in numbers:
                continue
            for stem in sorted(stems, key=self._written, reverse=True):
                meta, _ = self._check(stem, recipe)
                if meta is not None:
                    assert meta.number == number
                    yield meta
                    break

    def _check(self, stem: str, recipe: str | None = None) -> tuple[ShardMeta | None, str]:
        """The meta of a shard and what is damaged about it; empty if nothing is.

        Args:
            recipe: of which it must be; a shard of another one is not looked at any further.
        """
        path = self.folder / f"{stem}.json"
        try:
            fields = read_meta(path)
        except StoreError as error:
            return None, error.message
        if recipe is not None and fields.get("recipe") != recipe:
            return None, "it was made by another recipe"
        meta = as_meta(fields, path)
        if shard_stem(meta.number, meta.key) != stem or meta.stage != self.name:
            return None, "its meta file belongs to another shard"
        rows_path, dropped_path, _ = shard_paths(self.folder, meta)
        for path, wanted, what in (
            (rows_path, meta.rows_checksum, "rows"),
            (dropped_path, meta.dropped_checksum, "dropped rows"),
        ):
            try:
                if checksum(path.read_bytes()) != wanted:
                    return None, f"its {what} were changed or cut"
            except OSError:
                return None, f"its {what} are missing"
        return meta, ""

    def _remove_others(self, meta: ShardMeta) -> None:
        """Remove files of other revisions of a shard."""
        stem = shard_stem(meta.number, meta.key)
        kept = {path.name for path in shard_paths(self.folder, meta)}
        with store_errors(self.folder, "tidy"):
            # What a damaged meta file called its files is not known.
            damaged = stem in self._damaged
            for path in self.folder.glob(f"{stem}.*") if damaged else files_of(self.folder, stem):
                if path.name not in kept:
                    path.unlink(missing_ok=True)

    def _from_earlier_runs(self) -> dict[int, list[str]]:
        """Stems by number as they were when this object first looked: only these can be out of date."""
        if self._earlier is None:
            self._earlier = listed(self.folder)
        return self._earlier

    def _written(self, stem: str) -> float:
        try:
            return (self.folder / f"{stem}.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _move(self, stem: str, source: Path, target: Path) -> None:
        """Move a shard's files, so that its meta file arrives last or leaves first."""
        self._guard()
        self._reopen()
        with store_errors(target, "move a shard to"):
            target.mkdir(parents=True, exist_ok=True)
            paths = files_of(source, stem)
            for path in reversed(paths) if source == self.folder else paths:
                path.replace(target / path.name)


def _is_whole(meta: ShardMeta, files: Mapping[str, bytes]) -> bool:
    """Whether files, by their names, hold what a meta says."""
    rows, dropped, _ = (files.get(path.name, b"") for path in shard_paths(Path(), meta))
    return (checksum(rows), checksum(dropped)) == (meta.rows_checksum, meta.dropped_checksum)


def _usage(row: Any) -> Usage:
    usage = getattr(row, "usage", None)
    return usage if isinstance(usage, Usage) else Usage()


def _reasons(dropped: Sequence[Dropped]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for drop in dropped:
        counts[drop.reason] += drop.count
    return dict(sorted(counts.items()))
