"""Leases: who works on what, known by locks that end with their process.

A lease is a file that its holder has locked. A process that dies, however it dies, lets go of its leases; nothing has
to be cleaned up or timed out. Several processes of one run share its work this way.

A mandate is the lease under which a driver lets others write for it, on other machines too, where nobody may see its
lock. They look into the file before they write: it names those whose mandate was revoked, and it is gone soon after
the driver, since whoever finds a lease of somebody who was killed removes all that such holders left.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genprm.errors import StoreError
from genprm.store.files import open_own, store_errors


@contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Hold the lease at `path` for a while; False if another process (or task) holds it now."""
    with store_errors(path, "create"):
        path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path)
    try:
        if handle is not None:
            _sign(handle, path)
        yield handle is not None
    finally:
        if handle is not None:
            _give_back(handle, path)


def sweep_leases(folder: Path) -> None:
    """Remove the leases that nobody holds; their holders were killed."""
    for path in folder.glob("*.lock"):
        handle = _acquire(path)
        if handle is not None:
            _give_back(handle, path)


class Mandate:
    """The right to write for a driver, while the driver lives and does not revoke it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def revoke(self, name: str) -> None:
        """From now on `name` may not write: it is taken for dead, and others do its work."""
        with (
            store_errors(self.path, "write"),
            os.fdopen(open_own(self.path, os.O_WRONLY | os.O_APPEND), "a") as file,
        ):
            file.write(f"{name}\n")


@contextmanager
def mandate(folder: Path) -> Iterator[Mandate]:
    """Hold a mandate of one's own among the leases of a run."""
    path = folder / f"mandate-{uuid.uuid4().hex}.lock"
    with lease(path) as mine:
        assert mine
        yield Mandate(path)


def check_mandate(path: Path, name: str) -> None:
    """Find out whether `name` may write under the mandate at `path`.

    Raises:
        StoreError: it may not, or no longer.
    """
    try:
        _holder, *revoked = path.read_text().splitlines() or [""]
    except OSError:
        raise StoreError(
            f"{path} is not there: the driver has ended, or the directory cannot be seen from this machine"
        ) from None
    if name in revoked:
        raise StoreError(f"'{name}' was taken for dead, and its work was given to others")


def _give_back(handle: int, path: Path) -> None:
    # Removed while still locked: whoever opened the old file notices that it is not the current one.
    path.unlink(missing_ok=True)
    os.close(handle)


def _sign(handle: int, path: Path) -> None:
    """Write into a lease who holds it. One that is signed already belonged to somebody who was killed."""
    with store_errors(path, "write"):
        if os.fstat(handle).st_size:
            sweep_leases(path.parent)
            os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.uname().nodename} {os.getpid()}\n".encode(), 0)


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
