"""How the box's first process becomes the supervisor."""

from __future__ import annotations

import ast
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from . import frames, kernel, procfs, zygote
from .nodes import Node
from .supervisor import ROOT, Supervisor

if TYPE_CHECKING:
    from .config import Config


def run(
    config: Config,
    host: socket.socket,
    facts: dict[str, Any],
    own_proc: int | None,
    proc: int,
    reading_end: int,
) -> Callable[[], NoReturn]:
    """Start the zygote, report to the host what was reached, serve. Returns in the zygote alone.

    Args:
        config: what the host asked for.
        host: the socket to it.
        facts: what is known about the box so far.
        own_proc: a descriptor of a procfs of this pid namespace, where one could be had.
        proc: a descriptor of the host's /proc, for as long as the zygote warms up.
        reading_end: of the lifeline, for the zygote to hold.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.become_subreaper()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reader = procfs.reader(own_proc)
    facts |= {
        "supervisor_pid": os.getpid(),
        "uid": os.getuid(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "watch": reader is not None,
    }
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        host.detach()
        ours.close()  # now, and not when it is forgotten: another may have its number then
        return zygote.become(config, theirs, reading_end, proc)
    theirs.close()
    listener, found = _await(config, ours)
    os.close(proc)
    os.close(reading_end)
    host.sendall(frames.encode({"op": "ready", "facts": facts | found}))
    root = Node(ROOT, ours, pid=pid, pidfd=os.pidfd_open(pid), pristine=True)
    return Supervisor(config, host, root, listener, reader).serve()


def _await(config: Config, zygote_end: socket.socket) -> tuple[int | None, dict[str, Any]]:
    """Until the zygote is warm: the gate's listener, if there is one, and the zygote's facts."""
    listener = None
    while True:
        message, fds, _, _ = socket.recv_fds(zygote_end, 4096, 1)
        if not message or message.startswith(zygote.FAILED):
            cause = message[len(zygote.FAILED) :].decode("utf-8", "replace") or "its process ended"
            raise RuntimeError(f"tier '{config.tier}' could not be loaded in the box: {cause}")
        if fds:
            listener = fds[0]
        if message.startswith(zygote.READY):
            return listener, ast.literal_eval(message[len(zygote.READY) :].decode())
