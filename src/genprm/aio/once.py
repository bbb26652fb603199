"""A value that is found out once, however many tasks ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Call(Generic[T]):
    """A call that runs, and how many tasks wait for it."""

    task: asyncio.Task[T]
    waiting: int = 0


class Once(Generic[T]):
    """Keeps what the first success of a call gave; tasks that ask meanwhile wait for it, and share its failure.

    Tasks of several event loops may ask. Each loop may then make the call once, and the first success counts.
    """

    def __init__(self) -> None:
        self._value: list[T] = []
        self._calls: dict[asyncio.AbstractEventLoop, _Call[T]] = {}

    @property
    def value(self) -> T | None:
        """What is kept; None before the first success."""
        return self._value[0] if self._value else None

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """The value, made now if there is none.

        What `make` raises is raised in all who wait for this call, and whoever asks after them begins another. The
        call is cancelled when nobody waits for it any more.
        """
        if self._value:
            return self._value[0]
        loop = asyncio.get_running_loop()
        call = self._calls.get(loop)
        if call is None or call.task.done():
            call = self._calls[loop] = _Call(asyncio.ensure_future(self._keep(make)))
        call.waiting += 1
        try:
            await asyncio.wait([call.task])  # a waiter that is cancelled leaves it to the others
            return call.task.result()
        finally:
            call.waiting -= 1
            if not call.waiting:
                call.task.cancel()
                if self._calls.get(loop) is call:
                    del self._calls[loop]

    async def _keep(self, make: Callable[[], Awaitable[T]]) -> T:
        made = await make()
        if not self._value:
            self._value.append(made)
        return self._value[0]
