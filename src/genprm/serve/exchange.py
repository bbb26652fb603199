"""Answering a client that may leave: with one result, or with items as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from genprm.aio import cancel_all

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection; nobody reads the answer."""


async def while_connected(request: Request, call: Coroutine[Any, Any, T]) -> T:
    """A call's result; the call is cancelled when the client leaves. The request's body has been read.

    Raises:
        ClientGone: it did.
    """
    work, gone = asyncio.create_task(call), asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({work, gone}, return_when="FIRST_COMPLETED")
        if not work.done():
            raise ClientGone
        return work.result()
    finally:
        await cancel_all([work, gone])


class Relay(Generic[T]):
    """A generator that runs in a task of its own, so that waiting for its next item can end without ending it."""

    def __init__(self, source: AsyncGenerator[T, None]) -> None:
        self._items: asyncio.Queue[T | None] = asyncio.Queue()  # None: the end
        self._task = asyncio.create_task(self._run(source))

    async def begun(self) -> None:
        """Let it run until it has to wait, and raise what it raised by then."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if self._task.done():
            self._task.result()

    async def items(self, request: Request, pause: float) -> AsyncGenerator[T | None, None]:
        """The items; None each time that there was none for `pause` seconds. Ends early when the client leaves.

        However it ends, so does the generator. What the generator raises is raised at the end.
        """
        gone = asyncio.create_task(_disconnect(request))
        try:
            while not gone.done():
                get = asyncio.ensure_future(self._items.get())
                await asyncio.wait({get, gone}, timeout=pause, return_when="FIRST_COMPLETED")
                if not get.done():
                    get.cancel()
                    if not gone.done():
                        yield None
                    continue
                item = get.result()
                if item is None:
                    self._task.result()
                    return
                yield item
        finally:
            await cancel_all([self._task, gone])

    async def aclose(self) -> None:
        """End the generator. Idempotent."""
        await cancel_all([self._task])

    async def _run(self, source: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(source) as items:
                async for item in items:
                    self._items.put_nowait(item)
        finally:
            self._items.put_nowait(None)


class EventStream(StreamingResponse):
    """Server-sent events made of a relay's items.

    The relay ends with the answer, also if the client leaves before that begins, when nothing has asked for an item.
    """

    def __init__(self, relay: Relay[Any], lines: AsyncIterator[str]) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._relay.aclose()


async def _disconnect(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
