"""What the files of a shard are called."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import get_args

from genprm.errors import StoreError
from genprm.store.meta import ShardMeta, read_meta
from genprm.store.tables import Format


def shard_stem(number: int, key: str) -> str:
    """What the names of all files of a shard begin with."""
    return f"{number:06d}-{key}"


def shard_base(meta: ShardMeta) -> str:
    """What the names of its rows begin with: its stem, and its revision if there were others before."""
    stem = shard_stem(meta.number, meta.key)
    return f"{stem}.{meta.revision}" if meta.revision else stem


def files_of(folder: Path, stem: str) -> list[Path]:
    """The files of a shard that are there, its meta file last.

    A kill may have left those of an earlier revision, or of the next. Their names follow from the meta file, so that
    the folder, which may hold very many, is listed only if that file cannot be read.
    """
    meta = folder / f"{stem}.json"
    try:
        revisions = range(int(read_meta(meta)["revision"]) + 2)
    except (StoreError, KeyError):
        return sorted(folder.glob(f"{stem}.*"), key=lambda path: path.suffix == ".json")
    bases = [f"{stem}.{revision}" if revision else stem for revision in revisions]
    kinds = (*(f"rows.{format}" for format in get_args(Format)), "dropped.jsonl")
    return [
        *(path for base in bases for kind in kinds if (path := folder / f"{base}.{kind}").exists()),
        meta,
    ]


def shard_paths(folder: Path, meta: ShardMeta) -> tuple[Path, Path, Path]:
    """The files of a shard: its rows, its dropped rows, and its meta file."""
    base = shard_base(meta)
    return (
        folder / f"{base}.rows.{meta.format}",
        folder / f"{base}.dropped.jsonl",
        folder / f"{shard_stem(meta.number, meta.key)}.json",
    )


def listed(folder: Path) -> dict[int, list[str]]:
    """Stems of the shards that have a meta file in a folder, by number."""
    found: dict[int, list[str]] = {}
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            stem, _, kind = entry.name.rpartition(".")
            number, dash, _ = stem.partition("-")
            if kind == "json" and dash and number.isdigit():
                found.setdefault(int(number), []).append(stem)
    return found
