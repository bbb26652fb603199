"""One bound on the requests in flight, whatever number of shards and stages share an engine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from genprm.engines import Completion, Engine, Request


class GatedEngine:
    """Lets at most `limit` requests through to an engine at a time, in the order in which they came.

    The requests of one call stay together, because engines share the prefill of equal prompts; a call that holds
    more than the limit goes through alone.
    """

    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine = engine
        self._limit = limit
        self._held = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._closed = False

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self._engine.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine`."""
        count = min(len(requests), self._limit)
        await self._take(count)
        try:
            return await self._engine.generate(requests)
        finally:
            self._held -= count
            self._admit()

    async def check(self) -> None:
        """See `Engine`."""
        await self._engine.check()

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        return self._engine.describe()

    async def aclose(self) -> None:
        """See `Engine`."""
        if not self._closed:
            self._closed = True
            await self._engine.aclose()

    async def _take(self, count: int) -> None:
        if not self._queue and self._held + count <= self._limit:
            self._held += count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._held -= count  # admitted and cancelled in the same moment
            else:
                self._queue = deque(entry for entry in self._queue if entry[1] is not turn)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._queue and self._held + self._queue[0][0] <= self._limit:
            count, turn = self._queue.popleft()
            if not turn.cancelled():
                self._held += count
                turn.set_result(None)
