"""What the supervisor measures about snapshots, and what follows from it."""

from __future__ import annotations

from collections.abc import Collection

from .nodes import Node
from .procfs import Procfs

SPARE_FILES = 8  # descriptors that a snapshot needs to make a fork
_OWN_FILES = 4  # descriptors that every snapshot has
_QUEUE_BYTES = 256 << 10  # what the kernel may hold for one descriptor, in a socket or pipe


class Watch:
    """Measures snapshots from outside. What cannot be measured is taken for the worst.

    Args:
        proc: reads about processes; None where the kernel shows none.
        root: the zygote.
        memory: bytes that all snapshots may have together beyond the zygote's.
        processes: most processes and threads in the box.
    """

    def __init__(self, proc: Procfs | None, root: Node, memory: int, processes: int) -> None:
        self._proc = proc
        self._root = root
        self._memory = memory
        self._processes = processes
        self._threads = processes // 4  # of idle snapshots together
        look = proc.look(root.pid) if proc else None
        self._root_size = look.memory if look else 0

    def measure(self, node: Node) -> bool:
        """Look at a snapshot; returns whether its main thread lives.

        Without that it does not answer, and the kernel no longer tells what memory its other threads use.
        """
        if self._proc is None:
            return True
        look = self._proc.look(node.pid)
        if look is None or look.ended:
            return False
        try:
            files = self._proc.open_files(node.pid)
        except OSError:
            return False  # gone since
        queues = max(0, files - _OWN_FILES) * _QUEUE_BYTES
        node.size = max(0, look.memory - self._root_size) + queues
        node.threads = look.threads
        return True

    def forkable(self, node: Node) -> bool:
        """Whether a snapshot that waits can be forked again without its forks having anything in common.

        A fork shares open files, pipes and sockets with its siblings; threads and signal handlers may have
        changed the state while the fork before it was made. Shared memory is the system call filter's to
        refuse.
        """
        if self._proc is None:
            return False
        try:
            look, files = self._proc.look(node.pid), self._proc.descriptors(node.pid)
        except OSError:
            return False
        return look is not None and look.threads == 1 and not look.handles and files == node.files

    def short_of_files(self, node: Node, most: int) -> bool:
        """Whether a snapshot may lack the descriptors to make a fork, where code may have `most`."""
        try:
            return self._proc is None or self._proc.open_files(node.pid) + SPARE_FILES > most
        except OSError:
            return True

    def process(self, thread: int) -> int | None:
        """The process that a thread belongs to, if it can be known."""
        look = self._proc.look(thread) if self._proc else None
        return look.group if look else None

    def threads(self, node: Node) -> int | None:
        """Threads of a snapshot that are alive now, if that can be known."""
        look = self._proc.look(node.pid) if self._proc else None
        return look.threads if look else None

    def full(self, snapshots: int) -> bool:
        """Whether no further snapshot should be made: half the room is for threads, and for what is ending."""
        return snapshots >= self._processes // 2

    def crowded(self, snapshots: int) -> bool:
        """Whether what has ended should be collected soon, since room gets scarce."""
        return snapshots >= self._processes // 4

    def surplus(self, nodes: Collection[Node]) -> list[Node]:
        """The snapshots that have to go for the rest to be within the bounds: the largest first.

        Those that hold many threads go when they are idle: a prefix that can be replayed is worth less than
        the next session's process.
        """
        here = [node for node in nodes if node is not self._root and node.parent is None and not node.queue]
        gone: list[Node] = []
        memory = sum(node.size for node in here)
        for node in sorted(here, key=lambda node: node.size, reverse=True):
            if memory <= self._memory:
                break
            memory -= node.size
            gone.append(node)
        idle = [node for node in here if node.run is None and node not in gone]
        threads = sum(node.threads - 1 for node in idle)
        for node in sorted(idle, key=lambda node: node.threads, reverse=True):
            if threads <= self._threads:
                break
            threads -= node.threads - 1
            gone.append(node)
        return gone
