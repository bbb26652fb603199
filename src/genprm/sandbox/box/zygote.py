"""The process that holds a tier's packages ready. Its forks, and theirs, are the snapshots.

A snapshot waits for one kind of message: fork, and run this in the child. The child reports and then
is a snapshot itself. The state that code leaves behind is never returned to; it is forked from.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import fcntl
import gc
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from . import frames, hugepages, kernel, landlock, namespaces, seccomp, snippet, tiers
from .watch import SPARE_FILES

if TYPE_CHECKING:
    from .config import Config

_FORK_TRIES = 20
CONTROL = 3  # where a snapshot's socket to the supervisor is
_LIFELINE, _PROC = 4, 5  # what the zygote alone has, and what it has for as long as it warms up
COMMAND = struct.Struct("=dQB")  # soft seconds, seed of a fresh session, flags
FRESH, WAIT = 1, 2
HELLO = b"hello"
READY = b"ready"
FAILED = b"failed"
NO_FORK = b"no fork"
WAKE = b"w"
PING, PONG = b"?", b"!"


def become(config: Config, boot: socket.socket, reading_end: int, proc: int) -> Callable[[], NoReturn]:
    """Make this process the zygote: warm up, lock the door; returns what is left to do, `serve`.

    The caller returns it to the very first frame of the process and calls it there. Untrusted code can walk
    up the frames above it, and those here know places and processes of the host.
    """
    try:
        _settle(boot, reading_end, proc)
        if config.mode != "namespaces":
            _hide_host_name()
        sys.path[:] = config.path
        exec(tiers.WARMUP[config.tier], {})  # this package's own text
        _forget_host(config.path)
        gc.collect()
        gc.freeze()
        pages = hugepages.collapse(_PROC)
        os.close(_PROC)
        _limit(config)
        facts = _harden(config, CONTROL) | {"huge_pages": pages}
        os.write(CONTROL, READY + repr(facts).encode())
    except BaseException as error:
        os.write(CONTROL, FAILED + f"{type(error).__name__}: {error}".encode()[:2000])
        os._exit(1)
    return serve


def _hide_host_name() -> None:
    """Name the box as it is named where it has a host name of its own; the system call will be refused."""
    known = os.uname()
    name = os.uname_result(
        (known.sysname, namespaces.HOST_NAME, known.release, known.version, known.machine)
    )
    os.uname = lambda: name


def _forget_host(path: list[str]) -> None:
    """Drop what the interpreter remembers of how it was started, and from where apart from `path`."""
    sys.argv[:] = sys.orig_argv[:] = [""]
    sys.executable = sys._base_executable = ""  # type: ignore[attr-defined]
    for place in list(sys.path_importer_cache):
        if not any(place == root or place.startswith(root + "/") for root in path):
            del sys.path_importer_cache[place]


def _settle(boot: socket.socket, reading_end: int, proc: int) -> None:
    """Descriptors 0 to 3 as every snapshot has them, and two that no snapshot has.

    The supervisor, and nobody else, may look at this process and its forks; see `_limit` on core dumps.
    """
    kernel.permit_inspection()
    boot_end, reading_end, proc = (
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _PROC + 1) for fd in (boot.detach(), reading_end, proc)
    )
    _open_streams()
    os.dup2(0, 1)
    os.dup2(boot_end, CONTROL, inheritable=False)
    os.dup2(reading_end, _LIFELINE, inheritable=False)
    os.dup2(proc, _PROC, inheritable=False)
    os.closerange(_PROC + 1, 65536)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    gc.disable()


def _open_streams() -> None:
    """Standard input and error of this process's own: forks share an open file's flags."""
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 2)
    if null > 2:
        os.close(null)


def _take(control: int, out: int) -> None:
    """Put what was received for this fork in its place; code may have closed, so freed, any number before."""
    if min(control, out) <= CONTROL:
        received = control, out
        control, out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, CONTROL + 1) for fd in received)
        for fd in received:
            os.close(fd)
    os.dup2(out, 1)
    os.dup2(control, CONTROL)
    os.close(control)
    os.close(out)
    _open_streams()


def _collect() -> None:
    """Take note of ended snapshots, so that the kernel forgets them.

    Not from a signal handler: a signal would break off a fork that waits at the gate.
    """
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork() -> int:
    """As `os.fork`; -1, and a word to the supervisor, if there is no room for a process."""
    for _ in range(_FORK_TRIES):
        try:
            return os.fork()
        except OSError:
            time.sleep(0.01)
            _collect()  # one that was just killed may still have taken the room
    os.write(CONTROL, NO_FORK)
    return -1


def _limit(config: Config) -> None:
    """Hard limits; time is the supervisor's to watch."""
    limits = config.limits
    size = int(limits["file_mb"]) << 20
    memory = int(limits["memory_mb"]) << 20
    files = int(limits["open_files"])
    bounds = {
        resource.RLIMIT_CORE: 1,  # unlike 0 also where the host has a program that receives core dumps
        resource.RLIMIT_FSIZE: size,
        resource.RLIMIT_NOFILE: files + SPARE_FILES,  # lowered again below
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if config.mode == "namespaces" or os.getuid() >= 0x70000000:
        bounds[resource.RLIMIT_NPROC] = config.processes  # elsewhere the user's other processes count too
    for which, most in bounds.items():
        _, hard = resource.getrlimit(which)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (value, value))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))


def _harden(config: Config, control: int) -> dict[str, Any]:
    """Landlock, then the gate, then the allow-list; what could not be had is in the answer."""
    facts: dict[str, Any] = {"landlock": 0, "seccomp": False, "gate": False}
    if config.mode == "rlimits":
        return facts
    places = config.binds if config.mode == "namespaces" else config.binds.values()
    try:
        facts["landlock"] = landlock.restrict(places, config.path, ["/dev/null"], config.covered)
    except OSError as error:
        facts["landlock_reason"] = str(error)
    try:
        allowed = seccomp.allow_list(own_root=config.mode == "namespaces")
        listener = seccomp.install(seccomp.gate(), listen=True)
    except (OSError, KeyError) as error:
        facts["seccomp_reason"] = str(error)
        return facts
    with socket.socket(fileno=os.dup(control)) as channel:
        socket.send_fds(channel, [b"gate"], [listener])
    os.close(listener)
    facts["gate"] = True
    seccomp.install(allowed)
    facts["seccomp"] = True
    return facts


def serve() -> NoReturn:
    """Fork on command, for ever; every turn of the loop in a child is a snippet."""
    namespace: dict[str, Any] = {}
    pristine = True
    control = socket.socket(fileno=CONTROL)
    every = signal.valid_signals()
    # A process that waits runs no handler: what it holds stays as it is, whatever happens to its forks.
    mask = _signal.pthread_sigmask  # the public one makes an enum's member of each signal, 50 us in all
    mask(signal.SIG_BLOCK, every)
    while True:
        message, fds, _, _ = socket.recv_fds(control, frames.MAX_CODE + 1024, 2)
        if not message:
            if pristine:
                os.read(_LIFELINE, 1)  # ends with the supervisor; until then somebody must hold this end
            os._exit(0)
        _collect()
        if len(message) < COMMAND.size:
            if message == PING:  # a fork before has left nothing open here, now that this is read
                os.write(CONTROL, PONG)
            continue  # else it was only to wake this process up
        soft, seed, flags = COMMAND.unpack_from(message)
        state = random.getstate()
        child = _fork()
        if child != 0:
            for fd in fds:
                os.close(fd)
            continue
        if pristine:
            pristine = False
            os.close(_LIFELINE)
        _take(*fds)
        os.write(CONTROL, HELLO)
        if flags & WAIT:
            control.recv(1)
        if flags & FRESH:
            _seed(seed)
            gc.enable()
        else:
            random.setstate(state)  # CPython reseeds after a fork; to the session there was none
        mask(signal.SIG_UNBLOCK, every)
        outcome = snippet.execute(message[COMMAND.size :], soft, namespace)
        mask(signal.SIG_BLOCK, every)
        del message
        os.write(CONTROL, outcome)


def _seed(seed: int) -> None:
    """Give a fresh session its own random numbers, the same ones whenever its prefix is replayed."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed & 0xFFFFFFFF)
