"""A bound on what happens at the same time, over any number of event loops and threads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Slots:
    """So many may be inside at once; others wait in the order in which they came.

    An `asyncio.Semaphore` belongs to one event loop. This is an async context manager like it that tasks of several
    loops, each in a thread of its own, can share.

    Args:
        count: how many may be inside.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Future[None]] = deque()
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        with self._lock:
            if self._free > 0:  # then nobody waits
                self._free -= 1
                return
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_over()  # admitted and cancelled in the same moment
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._hand_over()

    def _hand_over(self) -> None:
        """Give a slot to whoever has waited longest and still waits."""
        while True:
            with self._lock:
                if not self._queue:
                    self._free += 1
                    return
                turn = self._queue.popleft()
            if turn.done():  # its task was cancelled
                continue
            try:
                # A future may only be set on its own loop; on that loop, too, this keeps the order.
                turn.get_loop().call_soon_threadsafe(self._admit, turn)
            except RuntimeError:  # that loop was closed
                continue
            return

    def _admit(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self._hand_over()
        else:
            turn.set_result(None)
