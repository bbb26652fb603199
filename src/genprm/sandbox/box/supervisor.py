"""Process 1 of the box: makes snapshots, watches them, believes nothing they say that it can measure.

It never runs untrusted code and shares no memory with a process that does. The host talks to it in
frames; each snapshot has a datagram socket of its own and, while it executes, a pipe for its output.
"""

from __future__ import annotations

import ast
import contextlib
import math
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import frames, kernel, nodes, seccomp, zygote
from .nodes import Node, Run

if TYPE_CHECKING:
    from .config import Config

_ZYGOTE_SECONDS, _SNAPSHOT_SECONDS = 30.0, 5.0  # to make a fork, on a very busy machine
_CHUNK = 1 << 16
_ROOT = 0


def run(config: Config, host: socket.socket, facts: dict[str, Any], proc: int) -> None:
    """Start the zygote, tell the host what was reached, serve. Never returns.

    Args:
        config: what the host asked for.
        host: the socket to it.
        facts: what is known about the box so far.
        proc: a descriptor of the host's /proc, for as long as the zygote warms up.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.become_subreaper()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    facts |= {
        "supervisor_pid": os.getpid(),
        "uid": os.getuid(),
        "interfaces": [name for _, name in socket.if_nameindex()],
    }
    root, listener, found = _start_zygote(config, host, proc)
    os.close(proc)
    host.sendall(frames.encode({"op": "ready", "facts": facts | found}))
    Supervisor(config, host, root, listener).serve()


def _start_zygote(
    config: Config, host: socket.socket, proc: int
) -> tuple[Node, int | None, dict[str, Any]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            host.detach()
            zygote.run(config, theirs, proc)
        except BaseException as error:
            os.write(zygote.CONTROL, zygote.FAILED + f"{type(error).__name__}: {error}".encode()[:2000])
        finally:
            os._exit(1)
    theirs.close()
    listener = None
    while True:
        message, fds, _, _ = socket.recv_fds(ours, 4096, 1)
        if not message or message.startswith(zygote.FAILED):
            cause = message[len(zygote.FAILED) :].decode("utf-8", "replace") or "its process ended"
            raise RuntimeError(
                f"the packages of tier '{config.tier}' could not be loaded in the box: {cause}"
            )
        if fds:
            listener = fds[0]
        if message.startswith(zygote.READY):
            facts = ast.literal_eval(message[len(zygote.READY) :].decode())
            return Node(_ROOT, ours, pid=pid, pidfd=os.pidfd_open(pid)), listener, facts


class Supervisor:
    """The event loop and its table of nodes."""

    def __init__(self, config: Config, host: socket.socket, root: Node, listener: int | None) -> None:
        self._bounds = config.limits
        self._hard_cpu = math.ceil(config.limits["cpu_seconds"]) + 1
        self._host = host
        self._listener = listener
        self._decoder = frames.Decoder()
        self._root = root
        self._nodes: dict[int, Node] = {_ROOT: root}
        self._by_pid: dict[int, Node] = {root.pid: root}
        self._active: set[Node] = set()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._watch(host.fileno(), self._on_host)
        self._watch(root.sock.fileno(), lambda: os._exit(1))  # it only ever says that it is gone
        if listener is not None:
            self._watch(listener, self._on_question)

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def serve(self) -> None:
        """Handle events until the host goes away."""
        while True:
            pause = None
            if self._active:
                pause = max(
                    0.0, min(node.run.deadline for node in self._active if node.run) - time.monotonic()
                )
            ready = [(fd, self._handlers[fd]) for fd, _ in self._epoll.poll(pause)]
            for fd, handler in ready:
                if self._handlers.get(fd) is handler:  # not closed, or made anew, by one before it
                    handler()
            self._expire()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    # -- the host ---------------------------------------------------------------------------------

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
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.setblocking(False)
        read, write = os.pipe()
        os.set_blocking(read, False)
        limits = header["limits"]
        wait = limits != self._bounds
        node = Node(header["node"], ours, parent)
        patience = _ZYGOTE_SECONDS if parent is self._root else _SNAPSHOT_SECONDS
        node.run = Run(limits, read, time.monotonic() + patience, wait)
        self._nodes[node.id] = node
        self._active.add(node)
        self._watch(ours.fileno(), lambda: self._on_message(node))
        self._watch(read, lambda: self._on_output(node))
        flags = (zygote.FRESH if parent is self._root else 0) | (zygote.WAIT if wait else 0)
        command = zygote.COMMAND.pack(limits["soft_seconds"], header["seed"], flags) + code
        if parent is not self._root and not parent.forks:
            parent.signal(signal.SIGCONT)
        parent.forks += 1
        parent.grants += 1
        try:
            socket.send_fds(parent.sock, [command], [theirs.fileno(), write])
        except OSError:
            self._lose(node, "the session's process does not listen")
        finally:
            theirs.close()
            os.close(write)

    def _drop(self, number: int) -> None:
        node = self._nodes.get(number)
        if node is None or node is self._root:
            return
        if node.parent is not None:
            node.doomed = True  # its process is being made; there is nothing to kill yet
        else:
            self._remove(node)

    # -- the gate ---------------------------------------------------------------------------------

    def _on_question(self) -> None:
        assert self._listener is not None
        question = seccomp.receive(self._listener)
        if question is None:
            return
        node = self._by_pid.get(question.pid)
        error = seccomp.EPERM
        if question.kind == "fork" and node is not None and node.grants:
            node.grants -= 1
            error = 0
        elif question.kind == "thread":
            error = seccomp.EAGAIN
            if (
                node is not None
                and node.run is not None
                and node.run.threads < node.run.limits["processes"]
            ):
                node.run.threads += 1
                error = 0
        seccomp.answer(self._listener, question, error)

    # -- snapshots --------------------------------------------------------------------------------

    def _on_message(self, node: Node) -> None:
        try:
            data, ancillary, flags, _ = node.sock.recvmsg(frames.MAX_OUTCOME + 1, nodes.ANCILLARY)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        if node.parent is not None:
            self._on_hello(node, data, nodes.sender(ancillary))
        elif node.run is None:
            self._remove(node)  # an idle snapshot has died, or says something nobody asked for
        elif not data or flags & socket.MSG_TRUNC:
            self._on_end(node)
        else:
            try:
                outcome = frames.decode_outcome(data)
            except frames.FrameError:
                self._finish(node, "died")
            else:
                self._finish(node, outcome.status, outcome)

    def _on_exit(self, node: Node) -> None:
        """The process has ended. Its socket need not tell: its frozen parent may still hold a copy."""
        if node.run is not None:
            self._on_message(node)  # what it said last
        if node.run is not None:
            self._on_end(node)
        elif node.id in self._nodes:
            self._remove(node)

    def _on_hello(self, node: Node, data: bytes, pid: int | None) -> None:
        parent = node.parent
        assert parent is not None and node.run is not None
        if data != zygote.HELLO or pid is None or pid in self._by_pid or pid == os.getpid():
            self._lose(node, "the session's process did not fork as told")
            return
        self._settle(node)
        node.pid = pid
        try:
            node.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._lose(node, "the new process is gone")
            return
        self._by_pid[pid] = node
        self._watch(node.pidfd, lambda: self._on_exit(node))
        if node.doomed:
            self._remove(node)
            return
        node.limit(self._bounds, self._hard_cpu)
        node.run.started = time.monotonic()
        node.run.deadline = node.run.started + node.run.limits["hard_seconds"]
        if node.run.wait:
            with contextlib.suppress(OSError):
                node.sock.send(b"g")

    def _settle(self, node: Node) -> None:
        """The fork that made `node`, or was to make it, is over; its parent is frozen again."""
        parent, node.parent = node.parent, None
        if parent is None:
            return
        parent.forks -= 1
        if not parent.forks and parent is not self._root:
            parent.grants = 0
            parent.signal(signal.SIGSTOP)

    def _on_output(self, node: Node) -> None:
        if node.run is None:
            return
        if self._drain(node):
            self._finish(node, "output_limit")

    def _drain(self, node: Node) -> bool:
        """Take what has been printed; returns whether it is more than is allowed."""
        assert node.run is not None
        cap = int(node.run.limits["output_bytes"])
        while len(node.run.stdout) <= cap:
            try:
                data = os.read(node.run.out, min(_CHUNK, cap + 1 - len(node.run.stdout)))
            except BlockingIOError:
                return False
            if not data:
                self._unwatch(node.run.out)
                return False
            node.run.stdout += data
        return True

    def _on_end(self, node: Node) -> None:
        """The process ended, was ended, or closed its socket, without a word about the outcome."""
        assert node.run is not None
        used = node.cpu_seconds()
        limit = float(node.run.limits["cpu_seconds"])
        if used is None:
            used = time.monotonic() - node.run.started
        self._finish(node, "killed" if used >= math.ceil(limit) - 0.05 else "died")

    def _expire(self) -> None:
        now = time.monotonic()
        for node in [node for node in self._active if node.run and node.run.deadline <= now]:
            if node.parent is None:
                self._finish(node, "timeout")
            elif node.parent is self._root:
                os._exit(1)  # a zygote that does not fork is of no use
            else:
                self._remove(node.parent)
                self._lose(node, "the session's process did not fork in time")

    def _finish(self, node: Node, status: str, outcome: frames.Outcome | None = None) -> None:
        run = node.run
        assert run is not None
        if self._drain(node):
            status, outcome = "output_limit", None
        header = {
            "op": "result",
            "node": node.id,
            "status": status,
            "error_type": outcome.error_type if outcome else None,
            "error_message": outcome.error_message if outcome else None,
            "peak_kb": outcome.peak_kb if outcome else None,
            "cpu": node.cpu_seconds(),
            "wall": time.monotonic() - run.started,
            "truncated": len(run.stdout) > run.limits["output_bytes"],
        }
        body = bytes(run.stdout[: run.limits["output_bytes"]])
        if status in ("ok", "error"):
            node.signal(signal.SIGSTOP)  # threads that the code left running stop with it
            self._active.discard(node)
            self._unwatch(run.out)
            os.close(run.out)
            node.run = None
        else:
            self._remove(node)
        self._tell(header, body)

    def _lose(self, node: Node, reason: str) -> None:
        self._settle(node)
        self._remove(node)
        if not node.doomed:
            self._tell({"op": "lost", "node": node.id, "reason": reason})

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
