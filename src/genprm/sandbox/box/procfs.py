"""What the supervisor reads from a /proc of its own, which no snapshot can reach."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_FIELDS = re.compile(rb"^(State|Tgid|Threads|RssAnon|RssShmem|VmSwap|SigBlk|SigCgt):\s+(\S+)", re.M)
_COUNTED = (b"RssAnon", b"RssShmem", b"VmSwap")


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

    def _read(self, path: str) -> bytes:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            return b"".join(iter(lambda: os.read(file, 1 << 14), b""))
        finally:
            os.close(file)

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
        fields = dict(_FIELDS.findall(text))
        caught, blocked = int(fields[b"SigCgt"], 16), int(fields[b"SigBlk"], 16)
        return Look(
            group=int(fields[b"Tgid"]),
            ended=fields[b"State"] in b"ZX",
            threads=int(fields[b"Threads"]),
            memory=sum(int(fields[name]) for name in _COUNTED if name in fields) << 10,
            handles=bool(caught & ~blocked),
        )

    def open_files(self, pid: int) -> int:
        """How many descriptors a process has open."""
        size = os.stat(f"{pid}/fd", dir_fd=self._fd).st_size
        return size or len(self.descriptors(pid))  # kernels before 6.2 do not say

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
