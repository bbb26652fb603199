"""A bound on how long a request's head may take to arrive: uvicorn has one for neither the first nor later ones."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded_arrival(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, closing a connection on which a head takes longer than `seconds`, or never begins.

    Between requests, uvicorn's own keep-alive time ends what is silent.
    """

    class BoundedArrival(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

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
            super().connection_lost(exc)

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
