"""Bounds on how long a connection may be idle within an exchange: uvicorn has none, for requests nor for answers."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

UNREAD_SECONDS = 120.0
"""Longer than a client's garbage collection or training step that holds up its reading."""


def bounded_arrival(seconds: float, unread_seconds: float = UNREAD_SECONDS) -> type[H11Protocol]:
    """uvicorn's protocol, closing a connection on which a head takes longer than `seconds`, or never begins.

    Between requests, uvicorn's own keep-alive time ends what is silent. A client that takes nothing of its answer for
    `unread_seconds` is cut off, as its answer would stay in memory for good.
    """

    class BoundedArrival(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            if self._waiting is None and not self._answering():
                self._wait()
            super().data_received(data)
            if self._waiting is not None and self._answering():
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._look_again(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None
            super().resume_writing()

        def _look_again(self, size: int) -> None:
            self._unread = self.loop.call_later(unread_seconds, self._look, size)

        def _look(self, before: int) -> None:
            size = self.transport.get_write_buffer_size()
            if size >= before:
                self.transport.abort()
            else:
                self._look_again(size)

        def _answering(self) -> bool:
            cycle: Any = self.cycle
            return cycle is not None and not cycle.response_complete

        def _wait(self) -> None:
            self._waiting = self.loop.call_later(seconds, self.transport.close)

        def _stop(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return BoundedArrival
