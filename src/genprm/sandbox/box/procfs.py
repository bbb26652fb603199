"""What the supervisor reads from a /proc of its own, which no snapshot can reach."""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Procfs:
    """Reads about processes of this pid namespace; raises `OSError` where the kernel does not tell.

    Args:
        fd: a descriptor of a procfs mount of this pid namespace.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.children()  # not every kernel lists them

    def _read(self, path: str) -> str:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)) as file:
            return file.read()

    def children(self) -> list[int]:
        """This process's own children, orphans that it adopted included."""
        pid = os.getpid()
        return [int(child) for child in self._read(f"{pid}/task/{pid}/children").split()]

    def resident(self, pid: int) -> int:
        """Bytes of memory that a process has, less what it shares with files; 0 where it is gone."""
        try:
            _, resident, shared, *_ = self._read(f"{pid}/statm").split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return (int(resident) - int(shared)) * _PAGE


def reader(fd: int | None) -> Procfs | None:
    """A reader, where there is a procfs that tells what is needed."""
    if fd is None:
        return None
    try:
        return Procfs(fd)
    except OSError:
        return None
