"""The process that the host starts: makes the box, forks the supervisor into it, and cleans up after it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from . import bootstrap, frames, kernel, lifeline, namespaces
from .cgroups import Cgroup
from .config import Config


def main(config: dict[str, Any], host: socket.socket) -> Callable[[], NoReturn]:
    """Make the box. Returns in its zygote alone, with what that is to do from then on."""
    try:
        serve = _run(Config(**config), host)
    except Exception:
        _fail(host, traceback.format_exc(limit=3))
        os._exit(1)
    if serve is None:
        os._exit(0)
    return serve


def _run(config: Config, host: socket.socket) -> Callable[[], NoReturn] | None:
    """The launcher's life; None at its end, something to do in the zygote."""
    watch = os.pidfd_open(config.host_pid)
    if os.getppid() != config.host_pid:
        return None
    group = Cgroup.make(_cgroup_mb(config.memory_mb), config.processes)
    kernel.become_subreaper()
    go_read, go_write = os.pipe()
    lifeline_ends = os.pipe()
    if config.mode == "namespaces":
        namespaces.prepare()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        os.close(watch)
        return _inside(config, host, go_read, group, lifeline_ends[0])
    host.close()
    os.close(go_read)
    os.close(lifeline_ends[1])
    try:
        if group is not None:
            group.add(child)
        os.write(go_write, b"g")
        _wait(child, watch)
    finally:
        _end(child)
        if group is not None:
            group.remove()
    return None


def _cgroup_mb(memory_mb: int) -> int:
    """Room for the zygote and for what the supervisor lets pass between two looks."""
    return memory_mb + memory_mb // 4 + 512


def _wait(child: int, watch: int) -> None:
    """Until the supervisor or the host ends."""
    supervisor = os.pidfd_open(child)
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    poll.register(watch, select.POLLIN)
    poll.poll()


def _end(child: int) -> None:
    """Kill the supervisor, then whatever it leaves behind (nothing, where it had a pid namespace)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        with contextlib.suppress(OSError):
            for orphan in children.read_text().split():
                os.kill(int(orphan), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _inside(
    config: Config, host: socket.socket, go: int, group: Cgroup | None, reading_end: int
) -> Callable[[], NoReturn]:
    """The child's way to becoming the supervisor, and then the zygote's; returns in the zygote alone.

    Args:
        config: what the host asked for.
        host: the socket to it.
        go: a pipe that holds a byte as soon as this may begin, and ends with the launcher.
        group: the cgroup of the box, if there is one.
        reading_end: of the lifeline; this process keeps the other end open for as long as it lives.
    """
    try:
        facts: dict[str, Any] = {"pid": os.getpid(), "mode": config.mode, "cgroup": group is not None}
        facts["cgroup_reason"] = "" if group else Cgroup.reason
        Cgroup.reason = ""  # it names places of the host
        if not os.read(go, 1):
            os._exit(1)
        os.setsid()
        with contextlib.suppress(OSError):
            # Where memory runs out, the kernel should take this before the user's own work.
            Path("/proc/self/oom_score_adj").write_text("300")
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        own_proc: int | None = os.dup(proc)
        if config.mode == "namespaces":
            own_proc = namespaces.build_root(config.binds, config.covered)
            namespaces.drop_user()
        else:
            _stay(config)
        kernel.no_new_privileges()
        kernel.forbid_dumps()
        kernel.die_with_parent()
        if select.select([go], [], [], 0)[0]:
            os._exit(1)  # the launcher ended before the kernel was told to watch it
        os.close(go)
        if config.mode != "namespaces":
            lifeline.tie(reading_end)
        return bootstrap.run(config, host, facts, own_proc, proc, reading_end)
    except Exception:
        _fail(host, traceback.format_exc(limit=3))
    os._exit(1)


def _stay(config: Config) -> None:
    """Without a root of its own a box is another user's, who must be able to reach the interpreter."""
    closed = namespaces.closed_directory(config.path)
    if closed is not None and os.geteuid() == 0 and config.mode == "landlock":
        raise PermissionError(
            13, f"without root the interpreter is out of reach: {closed} is closed to others"
        )
    if config.mode != "rlimits" or closed is None:
        namespaces.drop_user()


def _fail(host: socket.socket, reason: str) -> None:
    """Tell the host why there is no box; where it has gone, there is nobody to tell."""
    with contextlib.suppress(OSError):
        host.sendall(frames.encode({"op": "failed", "reason": reason[-4000:]}))
