"""What the supervisor knows about each snapshot process."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import signal
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

# Limits that a fork begins with; it waits for tighter ones before it runs code.
INHERITED = ("memory_mb", "file_mb", "open_files", "cpu_seconds")
_CHUNK = 1 << 16
_CREDENTIALS = struct.Struct("=iII")
ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size)  # room for credentials and for no descriptor


@dataclass(slots=True)
class Run:
    """One execution under way.

    Attributes:
        limits: of this execution (the host's `Limits` as a dict).
        out: the reading end of its standard output.
        deadline: when it is killed, on the monotonic clock.
        latest: the same, as its caller counts; the making of the process is part of that.
        wait: whether the child waits until its limits are set.
        used: CPU seconds, when last looked at.
        started: when it began, on the same clock.
        stdout, silent: what it has printed so far; whether it cannot print any more.
        threads: threads that the gate let through, and to which thread at what time the last ones.
        command, ends: the message that makes it start, and the descriptors that go with it.
    """

    limits: dict[str, Any]
    out: int
    deadline: float
    wait: bool
    latest: float = math.inf
    used: float = 0.0
    command: bytes = b""
    ends: tuple[int, ...] = ()
    started: float = field(default_factory=time.monotonic)
    stdout: bytearray = field(default_factory=bytearray)
    threads: int = 0
    recent: list[tuple[int, float]] = field(default_factory=list)
    silent: bool = False

    def drain(self) -> bool:
        """Take what has been printed; returns whether it is more than is allowed."""
        cap = int(self.limits["output_bytes"])
        while len(self.stdout) <= cap and not self.silent:
            try:
                data = os.read(self.out, min(_CHUNK, cap + 1 - len(self.stdout)))
            except BlockingIOError:
                return False
            self.silent = not data
            self.stdout += data
        return len(self.stdout) > cap

    def close_ends(self) -> None:
        """Let go of the child's descriptors, once they are sent or nobody is there to send them to."""
        for fd in self.ends:
            os.close(fd)
        self.ends, self.command = (), b""


@dataclass(slots=True, eq=False)
class Node:
    """A snapshot process, or one on its way to becoming one.

    Attributes:
        parent: the node that it is forked from, until it has said hello.
        pid, pidfd: set once it has said hello; -1 before.
        queue: the forks that it has to make, one after the other; the first is under way.
        pristine: whether it is the zygote, which has never run untrusted code.
        granted: whether the gate has let that fork through.
        forked: whether it has been told to make a fork before.
        asked: whether it is to say that it waits for the next word, before it makes a fork again.
        tight: whether its process has tighter limits than the box's, or too few descriptors left.
        files: what its descriptors stand for, unless code has opened others or put them in their place.
        size, threads: bytes of memory beyond the zygote's, with what the kernel may hold for it, and threads, when
            last looked at.
        run: what it executes; None while it is idle.
        doomed: whether it is to be killed as soon as it can be.
    """

    id: int
    sock: socket.socket
    parent: Node | None = None
    pid: int = -1
    pidfd: int = -1
    queue: list[Node] = field(default_factory=list)
    pristine: bool = False
    granted: bool = False
    forked: bool = False
    asked: bool = False
    tight: bool = False
    files: dict[int, str] = field(default_factory=dict)
    size: int = 0
    threads: int = 1
    run: Run | None = None
    doomed: bool = False

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens where the process has gone."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """Kill the process and let go of everything held for it."""
        self.signal(signal.SIGKILL)
        self.sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.run is not None:
            self.run.close_ends()
            os.close(self.run.out)
            self.run = None

    def cpu_seconds(self) -> float | None:
        """CPU time of the process, from the kernel; None where it has gone."""
        try:
            return time.clock_gettime((~self.pid << 3) | 2)
        except OSError:
            return None

    def limit(self, hard_cpu: int) -> None:
        """Set the limits of the execution that begins: the box's or lower, never higher."""
        assert self.run is not None
        limits = self.run.limits
        self._set(resource.RLIMIT_CPU, math.ceil(limits["cpu_seconds"]), hard_cpu)
        if self.run.wait:
            self.tight = True
            self._set(resource.RLIMIT_NOFILE, int(limits["open_files"]))
            self._set(resource.RLIMIT_AS, int(limits["memory_mb"]) << 20)
            self._set(resource.RLIMIT_FSIZE, int(limits["file_mb"]) << 20)

    def loosen(self, bounds: dict[str, Any], files: int) -> None:
        """Give the process what it needs to make a fork, and the fork to begin with: the box's own limits.

        Args:
            bounds: those.
            files: descriptors beyond them, to receive the fork's.
        """
        if self.tight:
            self._set(resource.RLIMIT_NOFILE, int(bounds["open_files"]) + files)
            self._set(resource.RLIMIT_CPU, math.ceil(bounds["cpu_seconds"]))
            self._set(resource.RLIMIT_AS, int(bounds["memory_mb"]) << 20)
            self._set(resource.RLIMIT_FSIZE, int(bounds["file_mb"]) << 20)

    def _set(self, which: int, soft: int, hard: int | None = None) -> None:
        with contextlib.suppress(ProcessLookupError):
            _, most = resource.prlimit(self.pid, which)
            if hard is not None and (most == resource.RLIM_INFINITY or hard < most):
                most = hard
            resource.prlimit(
                self.pid, which, (soft if most == resource.RLIM_INFINITY else min(soft, most), most)
            )


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of what connects the supervisor with a new snapshot.

    Attributes:
        sock, out: the supervisor's ends of the control socket and of the pipe for output.
        theirs: the snapshot's.
        files: what all its descriptors will stand for, in the kernel's words.
    """

    sock: socket.socket
    out: int
    theirs: tuple[int, int]
    files: dict[int, str]


def make_ends(most: int) -> Ends:
    """Connect a new snapshot; `OSError` if descriptors from number `most` on would be needed for it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    if write >= most:  # the kernel gives the lowest number that is free
        for end in (read, write):
            os.close(end)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # the sockets close themselves
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    ours.setblocking(False)
    os.set_blocking(read, False)
    control = theirs.detach()
    names = {1: f"pipe:[{os.fstat(write).st_ino}]", 3: f"socket:[{os.fstat(control).st_ino}]"}
    return Ends(ours, read, (control, write), names | dict.fromkeys((0, 2), "/dev/null"))


def sender(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """The process id that the kernel attached to a message, in this process's pid namespace."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= _CREDENTIALS.size:
            return int(_CREDENTIALS.unpack_from(data)[0])
    return None
