"""What stands before the app: keys and their limits, the size and the time of a body, a count of every request."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genprm.errors import Overloaded
from genprm.serve.callers import CALLER
from genprm.serve.failures import answer_of, refusal
from genprm.serve.keys import Keys
from genprm.serve.limits import Limits
from genprm.serve.metrics import Metrics
from genprm.serve.tracing import span

_LOG = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What needs no key: orchestrators ask these."""
_UNLIMITED = OPEN_PATHS | {"/metrics"}


class Guard:
    """Middleware that reads a request's whole body, if its sender may send it, before the app sees any of it.

    Args:
        app: the app behind.
        keys: those that are taken; none is asked for if there are none.
        limits: of the keys; probes and metrics are free.
        max_body_bytes, body_seconds: of a request's body.
        metrics: counts requests.
        paths: those of the app; all others are counted as one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        limits: Limits,
        max_body_bytes: int,
        body_seconds: float,
        metrics: Metrics,
        paths: frozenset[str],
    ) -> None:
        self._app = app
        self._keys, self._limits = keys, limits
        self._max_body_bytes, self._body_seconds = max_body_bytes, body_seconds
        self._metrics, self._paths = metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        asked = scope["path"].removeprefix(
            scope.get("root_path", "")
        )  # of an app that another one has mounted
        path = asked if asked in self._paths else "other"
        status, owner = 499, ""  # 499: the client left before any answer

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with span("genprm.request", _headers(scope), method=scope["method"], path=path) as traced:
            try:
                if self._keys and path not in OPEN_PATHS:
                    sent = _sent_keys(scope)
                    found = [name for key in sent if (name := self._keys.owner(key)) is not None]
                    if not found:
                        await _unauthorized(sent=bool(sent))(scope, receive, noted)
                        return
                    owner = found[0]
                await self._within_limits(owner, path, scope, receive, noted)
            finally:
                self._metrics.request(path, status, owner, time.perf_counter() - started)
                if traced is not None:
                    traced.set_attribute("genprm.status", status)

    async def _within_limits(
        self, owner: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        with ExitStack() as stack:
            if path not in _UNLIMITED:
                try:
                    caller = stack.enter_context(self._limits.using(owner))
                except Overloaded as error:
                    self._metrics.limited(owner)
                    await answer_of(error)(scope, receive, send)
                    return
                stack.callback(CALLER.reset, CALLER.set(caller))
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await _body(receive, self._max_body_bytes)
        except TimeoutError:
            slow = refusal(408, "slow", f"the body did not arrive within {self._body_seconds:g} seconds")
            await slow(scope, receive, send)
            return
        except _TooLarge:
            large = refusal(
                413,
                "too_large",
                f"the body is larger than {self._max_body_bytes} bytes",
                "The server's config sets this bound: serve.max_body_bytes.",
                {"Connection": "close"},
            )
            await large(scope, receive, send)
            return
        if body is None:
            return
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._run(scope, replayed, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app; a bug ends in an answer without its words, which the log has."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            if begun:
                raise
            _LOG.exception("a request ended in an unexpected error")
            broken = refusal(500, "internal", "an unexpected error; the server's log has it")
            await broken(scope, receive, send)


class _TooLarge(Exception):
    """More bytes than are taken."""


async def _body(receive: Receive, bound: int) -> bytes | None:
    """The whole body; None if the client left."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > bound:
            raise _TooLarge
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _sent_keys(scope: Scope) -> list[str]:
    """The keys of `X-API-Key: KEY` and `Authorization: Bearer KEY`; libraries may fill in the second themselves."""
    bearer, own = [], []
    headers: Any = scope["headers"]
    for name, value in headers:
        text: str = value.decode("latin-1").strip()
        if name == b"authorization" and text[:7].lower() == "bearer ":
            bearer.append(text[7:].strip())
        elif name == b"x-api-key":
            own.append(text)
    return [key for key in (own[:1] + bearer[:1]) if key]


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _unauthorized(*, sent: bool) -> JSONResponse:
    message = "this server asks for an API key"
    hint = "Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
    if sent:
        message = "the API key is none of this server's"
        hint = "It may have been mistyped or withdrawn. Whoever runs the server makes keys."
    return refusal(401, "unauthorized", message, hint, {"WWW-Authenticate": "Bearer"})
