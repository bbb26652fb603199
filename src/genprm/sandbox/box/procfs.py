"""What the supervisor reads from a /proc of its own, which no snapshot can reach."""

from __future__ import annotations

import os
from dataclasses import dataclass

_COUNTED = ("RssAnon", "RssShmem", "VmSwap")


@dataclass(frozen=True, slots=True)
class Look:
    """What the kernel says about a process.

    Attributes:
        group: its process id, also where a thread was asked about.
        ended: whether its main thread has ended; other threads may live, but its memory is no longer told.
        threads: threads alive.
        memory: bytes that are its own: resident or swapped out, shared memory included, files not.
        handles: whether a signal would run a handler in it as soon as it runs.
    """

    group: int
    ended: bool
    threads: int
    memory: int
    handles: bool


class Procfs:
    """Reads about processes of this pid namespace; raises `OSError` where the kernel does not tell.

    Args:
        fd: a descriptor of a procfs mount of this pid namespace.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.children()  # not every kernel lists them
        self.look(os.getpid())  # nor says all of this

    def _read(self, path: str) -> str:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)) as file:
            return file.read()

    def children(self) -> list[int]:
        """This process's own children, orphans that it adopted included."""
        pid = os.getpid()
        return [int(child) for child in self._read(f"{pid}/task/{pid}/children").split()]

    def look(self, pid: int) -> Look | None:
        """At a process, or the process of a thread; None where it is gone."""
        try:
            text = self._read(f"{pid}/status")
        except (FileNotFoundError, ProcessLookupError):
            return None
        lines = (line.split(":", 1) for line in text.splitlines())
        fields = {name: value.split() for name, value in lines}
        caught, blocked = (int(fields[name][0], 16) for name in ("SigCgt", "SigBlk"))
        return Look(
            group=int(fields["Tgid"][0]),
            ended=fields["State"][0] in "ZX",
            threads=int(fields.get("Threads", "0")[0]),
            memory=sum(int(fields[name][0]) for name in _COUNTED if name in fields) << 10,
            handles=bool(caught & ~blocked),
        )

    def open_files(self, pid: int) -> int | None:
        """How many descriptors a process has open; None where the kernel (before 6.2) does not say."""
        return os.stat(f"{pid}/fd", dir_fd=self._fd).st_size or None

    def descriptors(self, pid: int) -> dict[int, str]:
        """The open descriptors of a process and what they stand for."""
        place = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            return {int(number): os.readlink(number, dir_fd=place) for number in os.listdir(place)}  # noqa: PTH208 - of a descriptor
        finally:
            os.close(place)


def reader(fd: int | None) -> Procfs | None:
    """A reader, where there is a procfs that tells what is needed."""
    if fd is None:
        return None
    try:
        return Procfs(fd)
    except (OSError, LookupError, ValueError):
        return None
