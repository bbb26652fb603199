"""A value that is found out once, however many tasks ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Keeps what the first success of a call gave; tasks that ask meanwhile wait for it.

    Tasks of several event loops may ask. Each loop may then make the call once, and the first success counts.
    """

    def __init__(self) -> None:
        self._value: list[T] = []
        self._turns: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    @property
    def value(self) -> T | None:
        """What is kept; None before the first success."""
        return self._value[0] if self._value else None

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """The value, made now if there is none. What `make` raises is raised, and the next task tries again."""
        if self._value:
            return self._value[0]
        loop = asyncio.get_running_loop()
        async with self._turns.setdefault(loop, asyncio.Lock()):
            if not self._value:
                self._value.append(await make())
        self._turns.pop(loop, None)
        return self._value[0]
