"""Process 1 of the box: makes snapshots, watches them, believes nothing they say that it can measure.

It never runs untrusted code and shares no memory with a process that does. The host talks to it in
frames; each snapshot has a datagram socket of its own and, while it executes, a pipe for its output.
A snapshot is told to make one fork at a time, and is stopped whenever it has nothing to do.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from . import frames, nodes, zygote
from .gatekeeper import REVIEW_SECONDS, Gatekeeper
from .nodes import Node, Run
from .reaper import Reaper
from .watch import SPARE_FILES, Watch

if TYPE_CHECKING:
    from .config import Config
    from .procfs import Procfs

ROOT = 0  # the number of the zygote
_NO_PROCESS = "no further process can be made in it"
_ZYGOTE_SECONDS, _SNAPSHOT_SECONDS = 30.0, 3.0  # to make a fork, on a very busy machine
_GRACE_SECONDS = 0.25  # of making a fork that a run's hard limit does not count
_WATCH_SECONDS = 0.1
_TICKS_SHARE, _TICKS_SHARE_OF_THREADS = 0.85, 0.6
_SPARE_FILES = 16  # descriptors kept for what a run under way still needs


class Supervisor:
    """The event loop and its table of nodes.

    Args:
        config: limits of executions and of the box.
        host: the socket to the host.
        root: the zygote.
        listener: where the gate's questions arrive; None where there is no gate.
        proc: reads about processes; None where memory cannot be watched.
    """

    def __init__(
        self, config: Config, host: socket.socket, root: Node, listener: int | None, proc: Procfs | None
    ) -> None:
        self._bounds = config.limits
        self._hard_cpu = math.ceil(config.limits["cpu_seconds"]) + 1
        self._most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES
        self._host = host
        self._proc = proc
        self._gauge = Watch(proc, root, config.memory_mb << 20, config.processes)
        self._gate = None if listener is None else Gatekeeper(listener, self._find, self._gauge)
        self._decoder = frames.Decoder()
        self._root = root
        self._nodes: dict[int, Node] = {ROOT: root}
        self._by_pid: dict[int, Node] = {root.pid: root}
        self._active: set[Node] = set()
        self._reaper = Reaper(root, proc)
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._watch(host.fileno(), self._on_host)
        self._watch(root.sock.fileno(), self._on_root)
        if self._gate is not None:
            self._watch(self._gate.listener, self._gate.on_question)

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def serve(self) -> NoReturn:
        """Handle events until the host goes away."""
        measured = 0.0
        while True:
            ready = [(fd, self._handlers[fd]) for fd, _ in self._epoll.poll(self._pause())]
            for fd, handler in ready:
                if self._handlers.get(fd) is handler:  # not closed, or made anew, by one before it
                    handler()
            if self._gate is not None:
                self._gate.review()
            now = time.monotonic()
            self._expire(now)
            if self._active and now - measured >= _WATCH_SECONDS:
                measured = now
                self._look()
            self._reaper.work(self._by_pid, crowded=self._gauge.crowded(len(self._nodes)))

    def _pause(self) -> float | None:
        """How long nothing needs to be looked at; None until the next event."""
        pauses = [self._reaper.pause(crowded=self._gauge.crowded(len(self._nodes)))]
        if self._gate is not None and self._gate.busy:
            pauses.append(REVIEW_SECONDS)
        if self._active:
            first = min(node.run.deadline for node in self._active if node.run)
            pauses += [max(0.0, first - time.monotonic()), _WATCH_SECONDS]
        return min((pause for pause in pauses if pause is not None), default=None)

    def _on_host(self) -> None:
        data = self._host.recv(1 << 20)
        if not data:
            os._exit(0)
        for frame in self._decoder.feed(data):
            if frame.header["op"] == "run":
                self._start(frame.header, frame.body)
            else:
                self._drop(frame.header["node"])

    def _tell(self, header: dict[str, Any], body: bytes = b"") -> None:
        try:
            self._host.sendall(frames.encode(header, body))
        except OSError:
            os._exit(0)

    def _start(self, header: dict[str, Any], code: bytes) -> None:
        parent = self._nodes.get(header["parent"])
        if parent is None or parent.run is not None:
            self._tell({"op": "lost", "node": header["node"], "reason": "the session's process is gone"})
            return
        try:
            ends = None if self._gauge.full(len(self._nodes)) else nodes.make_ends(self._most_files)
        except OSError:
            ends = None
        if ends is None:
            self._tell({"op": "refused", "node": header["node"], "reason": "it has too many sessions"})
            return
        limits = header["limits"]
        wait = any(limits[name] < self._bounds[name] for name in nodes.INHERITED)
        if parent is not self._root and self._gauge.short_of_files(parent, self._bounds["open_files"]):
            parent.tight = wait = True
        flags = (zygote.FRESH if parent is self._root else 0) | (zygote.WAIT if wait else 0)
        command = zygote.COMMAND.pack(limits["soft_seconds"], header["seed"], flags) + code
        node = Node(header["node"], ends.sock, parent, files=ends.files)
        node.run = Run(limits, ends.out, math.inf, wait, command=command, ends=ends.theirs)
        self._nodes[node.id] = node
        self._active.add(node)
        self._watch(node.sock.fileno(), lambda: self._on_message(node))
        self._watch(ends.out, lambda: self._on_output(node))
        parent.queue.append(node)
        if len(parent.queue) == 1:
            self._command(parent)

    def _command(self, parent: Node, *, answered: bool = False) -> None:
        """Have `parent` make the first fork of its queue.

        One that has made a fork before is asked for a word first, and looked at when it has `answered`: it
        may have been stopped before it closed what it had received for the last one.
        """
        node = parent.queue[0]
        run = node.run
        assert run is not None
        now = time.monotonic()
        parent.granted = False
        run.deadline = now + _ZYGOTE_SECONDS
        message, ends = run.command, list(run.ends)
        if parent is not self._root:
            if answered and not self._gauge.forkable(parent):
                self._lose(node, "its process cannot be forked a second time")
                return
            run.latest = min(run.latest, now + run.limits["hard_seconds"] + _GRACE_SECONDS)
            run.deadline = min(now + _SNAPSHOT_SECONDS, run.latest)
            parent.asked = parent.forked and not answered
            parent.forked = True
            if parent.asked:
                message, ends = zygote.PING, []
            parent.loosen(self._bounds, SPARE_FILES)
            parent.signal(signal.SIGCONT)
        try:
            socket.send_fds(parent.sock, [message], ends)
        except OSError:
            self._blame(node, "the session's process does not listen")
        else:
            if ends:
                run.close_ends()

    def _drop(self, number: int) -> None:
        node = self._nodes.get(number)
        if node is None or node is self._root:
            return
        if node.parent is not None:
            node.doomed = True  # its process is being made; there is nothing to kill yet
        else:
            self._remove(node)

    def _find(self, pid: int) -> Node | None:
        """The snapshot that a process or a thread of one belongs to."""
        if pid not in self._by_pid:
            # It may have said hello, and asked at once.
            for node in [node for node in self._active if node.parent is not None]:
                if node.parent is not None:
                    self._on_message(node)
        return self._by_pid.get(pid) or self._by_pid.get(self._gauge.process(pid) or 0)

    def _on_message(self, node: Node) -> None:
        try:
            data, ancillary, flags, _ = node.sock.recvmsg(frames.MAX_OUTCOME + 1, nodes.ANCILLARY)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        if node.parent is not None:
            self._on_hello(node, data, nodes.sender(ancillary))
        elif node.run is None and node.queue and node.asked and data == zygote.PONG:
            self._command(node, answered=True)
        elif node.run is None and node.queue and data == zygote.NO_FORK:
            self._blame(node.queue[0], _NO_PROCESS, "refused")  # if that is true, and it has made none
        elif node.run is None:
            self._give_up(node)  # it has died, or says something nobody asked for
        elif not data or flags & socket.MSG_TRUNC:
            self._on_end(node)
        else:
            try:
                outcome = frames.decode_outcome(data)
            except frames.FrameError:
                self._finish(node, "died")
            else:
                self._finish(node, outcome.status, outcome)

    def _on_root(self) -> None:
        if self._root.sock.recv(64) != zygote.NO_FORK:
            os._exit(1)  # it has ended
        if self._root.queue:
            self._lose(self._root.queue[0], _NO_PROCESS, "refused")

    def _on_exit(self, node: Node) -> None:
        """The process has ended. Its socket need not tell: its frozen parent may still hold a copy."""
        if node.run is not None:
            self._on_message(node)  # what it said last
        if node.run is not None:
            self._on_end(node)
        elif node.id in self._nodes:
            self._give_up(node)

    def _give_up(self, node: Node) -> None:
        """End a snapshot that executes nothing; whatever calls itself its fork by now may be the same process."""
        if node.queue:
            self._blame(node.queue[0], "the session's process ended while it was to fork")
        else:
            self._remove(node)

    def _on_hello(self, node: Node, data: bytes, pid: int | None) -> None:
        assert node.parent is not None and node.run is not None
        if data != zygote.HELLO or pid is None or pid in self._by_pid or pid == os.getpid():
            self._blame(node, "the session's process did not fork as told")
            return
        node.pid = pid
        try:
            node.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._blame(node, "the new process is gone")
            return
        self._by_pid[pid] = node
        self._watch(node.pidfd, lambda: self._on_exit(node))
        self._settle(node)
        if node.doomed:
            self._remove(node)
            return
        node.limit(self._hard_cpu)
        node.run.started = time.monotonic()
        node.run.deadline = min(node.run.started + node.run.limits["hard_seconds"], node.run.latest)
        if node.run.wait:
            with contextlib.suppress(OSError):
                node.sock.send(b"g")

    def _settle(self, node: Node) -> None:
        """The fork that made `node`, or was to make it, is over; its parent makes the next or is stopped."""
        parent, node.parent = node.parent, None
        if parent is None:
            return
        parent.queue.remove(node)
        if parent.id not in self._nodes:
            return
        if parent.queue:
            self._command(parent)
        elif parent is not self._root:
            parent.signal(signal.SIGSTOP)

    def _blame(self, node: Node, reason: str, op: str = "lost") -> None:
        """A fork went wrong. A snapshot that was told to make it cannot be trusted to have made none."""
        parent = node.parent
        if parent is self._root:
            self._lose(node, reason)
            return
        assert parent is not None
        if self._proc is None and parent.granted:
            os._exit(1)  # nothing here can find a process that does not want to be found
        self._reaper.suspect()
        self._remove(parent)
        self._lose(node, reason, op)
        for waiting in list(parent.queue):
            self._lose(waiting, reason)

    def _on_output(self, node: Node) -> None:
        if node.run is not None and node.run.drain():
            self._finish(node, "output_limit")
        elif node.run is not None and node.run.silent:
            self._unwatch(node.run.out)

    def _on_end(self, node: Node) -> None:
        """The process ended, was ended, or closed its socket, without a word about the outcome."""
        assert node.run is not None
        # The kernel may have forgotten the process: then what it used is known up to the time since.
        used = node.cpu_seconds()
        if used is None:
            used = node.run.used + 1.5 * _WATCH_SECONDS * (1 + node.run.threads)
        # The kernel's limit counts whole ticks of every thread, the clock what was really used.
        share = _TICKS_SHARE_OF_THREADS if node.run.threads else _TICKS_SHARE
        limit = share * min(math.ceil(node.run.limits["cpu_seconds"]), self._hard_cpu)
        self._finish(node, "killed" if used >= limit else "died")

    def _expire(self, now: float) -> None:
        for node in [node for node in self._active if node.run and node.run.deadline <= now]:
            if node.run is None:
                continue  # ended together with another one
            if node.parent is None:
                self._finish(node, "timeout")
            elif node.parent is self._root:
                os._exit(1)  # a zygote that does not fork is of no use
            else:
                self._blame(node, "the session's process did not fork in time", "unresponsive")

    def _look(self) -> None:
        """Measure what executes; see that all snapshots together keep within the bounds of the box."""
        for node in [node for node in self._active if node.parent is None]:
            if node.run is None:
                continue  # ended together with another one
            node.run.used = node.cpu_seconds() or node.run.used
            if not self._gauge.measure(node):
                self._on_exit(node)
        self._shed()

    def _shed(self) -> None:
        for node in self._gauge.surplus(self._nodes.values()):
            if node.run is not None:
                self._finish(node, "killed")
            else:
                self._remove(node)

    def _finish(self, node: Node, status: str, outcome: frames.Outcome | None = None) -> None:
        run = node.run
        assert run is not None
        if run.drain():
            status, outcome = "output_limit", None
        elif status in ("ok", "error"):
            node.signal(signal.SIGSTOP)  # threads that the code left running stop with it
            if not self._gauge.measure(node):
                status, outcome = "died", None
        header = {
            "op": "result",
            "node": node.id,
            "status": status,
            "error_type": outcome.error_type if outcome else None,
            "error_message": outcome.error_message if outcome else None,
            "peak_kb": outcome.peak_kb if outcome else None,
            "cpu": node.cpu_seconds() or run.used,
            "wall": time.monotonic() - run.started,
            "truncated": len(run.stdout) > run.limits["output_bytes"],
        }
        body = bytes(run.stdout[: run.limits["output_bytes"]])
        if status in ("ok", "error"):
            self._active.discard(node)
            self._unwatch(run.out)
            os.close(run.out)
            node.run = None
            if node.threads > 1:
                self._shed()
        else:
            self._remove(node)
        self._tell(header, body)

    def _lose(self, node: Node, reason: str, op: str = "lost") -> None:
        """Give up a node that does not execute yet; `op` says why, as the host takes it."""
        self._settle(node)
        self._remove(node)
        if not node.doomed:
            self._tell({"op": op, "node": node.id, "reason": reason})

    def _remove(self, node: Node) -> None:
        self._nodes.pop(node.id, None)
        if self._by_pid.get(node.pid) is node:
            del self._by_pid[node.pid]
        self._active.discard(node)
        self._unwatch(node.sock.fileno())
        self._unwatch(node.pidfd)
        if node.run is not None:
            self._unwatch(node.run.out)
        node.kill()
        self._reaper.expect()
