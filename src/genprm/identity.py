"""One identity for shards, cached completions and trained models: a hash of all that decides them, and of nothing else.

`Decides` collects what decides a stage's rows. A shard's key is a hash of the stage's name, its `Decides` and the
keys of the shards that it is made from; the first key of the chain hashes the problems themselves. Costs and times
are never part of a key, and neither are settings that cannot change a row (replicas, concurrency, cache sizes).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel

_CARD = re.compile(r"README(\.earlier(\.\d+)?)?\.md")
_BLOCK = 1 << 20
_READ_WHOLE = 1 << 30
"""Files up to this size are hashed whole; of larger ones, blocks evenly spread over them."""


@dataclass(frozen=True, slots=True)
class Decides:
    """Everything that decides a stage's rows, apart from what the stage is given.

    Attributes:
        options: the stage's own options: a config section, or a mapping of plain values.
        profiles: the *content* of the prompt profiles used, not their names.
        engine: from `genprm.engines.engine_identity`; for a local model the content of its files.
        sandbox: tier and limits of the sandbox, where code runs.
        seed: of the run.
        domain: the subject's name, which decides extraction, grading and splitting.
        more: anything else.
    """

    options: Any = None
    profiles: Any = None
    engine: Any = None
    sandbox: Any = None
    seed: int | None = None
    domain: str = "math"
    more: Any = None

    def digest(self) -> str:
        """A key of all fields."""
        return content_key({field.name: getattr(self, field.name) for field in fields(self)})


def shard_key(stage: str, decides: Decides, parents: Sequence[str]) -> str:
    """The key of a stage's shard, from the keys of the shards that it is made from."""
    return content_key(stage, decides.digest(), list(parents))


def content_key(*parts: Any) -> str:
    """A 24-digit hexadecimal key of JSON-able values and records; equal content, equal key."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(json.dumps(plain(part), sort_keys=True, ensure_ascii=False).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """Records, mappings and sequences as what JSON can hold."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def model_identity(model: str) -> str:
    """What names a model: a hub id is itself, a local folder becomes a key of the names and contents of its files.

    Hidden files, folders, this library's own records (`genprm*.json`) and model cards do not count. Files over 1 GiB
    count with 1,024 blocks of 1 MiB that are spread evenly over them, their ends included.
    """
    folder = Path(model)
    if folder.is_file():
        return content_key([[folder.name, _file_digest(folder)]])
    if not folder.is_dir():
        return model
    files = sorted(path for path in folder.iterdir() if path.is_file() and not _is_record(path.name))
    return content_key([[path.name, _file_digest(path)] for path in files])


def _is_record(name: str) -> bool:
    """Whether a file of a model's folder says how the model came about, and not what it is."""
    return name.startswith(".") or is_card(name) or (name.startswith("genprm") and name.endswith(".json"))


def is_card(name: str) -> bool:
    """Whether a file of this name is a model's card, or an earlier one that training set aside."""
    return _CARD.fullmatch(name) is not None


def _file_digest(path: Path) -> str:
    found = path.stat()
    return _digest_of(str(path), found.st_size, found.st_mtime_ns, found.st_ino)


@functools.lru_cache(maxsize=4096)
def _digest_of(path: str, size: int, _changed: int, _inode: int) -> str:
    """The digest of a file's content; a file that changes is read again."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with Path(path).open("rb") as file:
        if size <= _READ_WHOLE:
            while block := file.read(_BLOCK):
                digest.update(block)
        else:
            for number in range(1024):
                file.seek((size - _BLOCK) * number // 1023)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


@functools.cache
def costs_of(row_type: type[BaseModel]) -> dict[str, Any]:
    """Which fields of a record, at any depth, are costs or times: an `exclude` for `model_dump`.

    A field is one if it holds a `Usage` or is called `seconds`.
    """
    found: dict[str, Any] = {}
    for name, field in row_type.model_fields.items():
        if name in ("usage", "seconds"):
            found[name] = True
            continue
        for inner, several in _models_in(field.annotation, False):
            costs = costs_of(inner)
            if costs:
                found[name] = {"__all__": costs} if several else costs
    return found


def _models_in(annotation: Any, several: bool) -> list[tuple[type[BaseModel], bool]]:
    import typing

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, several)]
    inside = several or typing.get_origin(annotation) in (tuple, list)
    return [pair for part in typing.get_args(annotation) for pair in _models_in(part, inside)]


def rows_digest(rows: Sequence[BaseModel]) -> str:
    """A key of what rows say, whatever they cost."""
    digest = hashlib.blake2b(digest_size=12)
    for row in rows:
        digest.update(row.model_dump_json(exclude=costs_of(type(row))).encode())
        digest.update(b"\n")
    return digest.hexdigest()
