"""Atomic files: what a kill or a full disk can do to a run directory is decided here."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from genprm.errors import StoreError
from genprm.identity import plain

_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""Names of files that `write_atomic` has not put in place yet."""


@contextmanager
def store_errors(path: Path, action: str) -> Iterator[None]:
    """Turn an operating system error on `path` into one `StoreError` with a remedy."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "Free some disk space and run the same command again; finished shards are kept.",
            errno.EDQUOT: "The disk quota is used up; free some space and run the same command again.",
            errno.EACCES: "Check the permissions of the run directory, or choose another.",
            errno.EROFS: "The file system is read-only; choose another run directory.",
            errno.ENOLCK: "The file system has no locks; choose a run directory on another.",
            errno.ELOOP: "A symbolic link stands in its place; remove it: a run directory holds its own files.",
            errno.EOPNOTSUPP: "The file system has no locks; choose a run directory on another.",
        }
        hint = hints.get(error.errno or 0, "")
        raise StoreError(f"cannot {action} {path}: {error.strerror or error}", hint=hint) from error


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a run directory's file; a symbolic link in its place, which leads elsewhere, is refused."""
    with store_errors(path, "open"):
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def write_atomic(path: Path, data: bytes, *, settle: bool = True) -> None:
    """Write a file so that, whatever happens, it holds either its old content or all of the new.

    Args:
        settle: wait until the folder is on the disk, too; without it, a file of the same folder that is written behind
            this one has to settle both.
    """
    with store_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if settle:
            _sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed calls of `write_atomic` left in a folder; nobody may be writing there."""
    with store_errors(folder, "tidy"):
        for path in folder.glob(".*.tmp"):
            if _LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON-able value or record atomically, indented."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that this package wrote."""
    with store_errors(path, "read"):
        data = path.read_bytes()
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged: {error}",
            hint="Delete the file and run again; what it held is computed anew.",
        ) from None


def encode_jsonl(records: Iterable[BaseModel]) -> bytes:
    """Records as JSON lines."""
    return b"".join(record.model_dump_json().encode() + b"\n" for record in records)


def checksum(data: bytes) -> str:
    """A checksum of a file's bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_checksum(path: Path) -> str:
    """`checksum` of a file that may be larger than memory."""
    digest = hashlib.blake2b(digest_size=16)
    with store_errors(path, "read"), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
