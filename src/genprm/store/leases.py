"""Leases: who works on what, known by locks that end with their process.

A lease is a file that its holder has locked. A process that dies, however it dies, lets go of its leases; nothing has
to be cleaned up or timed out. Several processes of one run share its work this way.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genprm.store.files import open_own, store_errors


@contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Hold the lease at `path` for a while; False if another process (or task) holds it now."""
    with store_errors(path, "create"):
        path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            # Removed while still locked: whoever opened the old file notices that it is not the current one.
            path.unlink(missing_ok=True)
            os.close(handle)


def _acquire(path: Path) -> int | None:
    while True:
        handle = open_own(path, os.O_RDWR)
        try:
            if not try_lock(handle, path):
                os.close(handle)
                return None
        except BaseException:
            os.close(handle)
            raise
        if _is_current(handle, path):
            return handle
        os.close(handle)


def try_lock(handle: int, path: Path) -> bool:
    """Lock an open file; False if somebody else has it locked.

    Raises:
        StoreError: the file system has no locks.
    """
    with store_errors(path, "lock"):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is_current(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
