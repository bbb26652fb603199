"""JSON exchanges with one of several equal servers: choice, health, and errors with types."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from genprm.engines._common.affinity import Affinity
from genprm.engines._http import wire
from genprm.engines._http.connections import Connections, Reply, was_sent
from genprm.engines._http.failures import (
    EXCERPT,
    AnswerWithheld,
    EngineOverloaded,
    stated,
    stated_error,
    status_error,
)
from genprm.engines._http.servers import Server
from genprm.errors import (
    ContextOverflow,
    EngineError,
    EngineProtocolError,
    EngineRequestError,
    EngineTimeout,
    EngineUnavailable,
)

_ANSWERS = frozenset({"/v1/completions", "/v1/chat/completions"})
_PROBE_SECONDS = 10.0
# A conversation stays with its server unless that one has so many requests more than another.
_SLACK = 4


class Transport:
    """A pool of equal servers, for tasks of any event loop and thread.

    A server that failed gets no requests while another one is well. Once it has rested it is probed with
    a small question, and comes back when it answers.

    Args:
        base_urls: with or without `/v1` at the end.
        api_key: sent as a bearer token; kept out of every message.
        timeout: seconds to wait for an answer.

    Raises:
        ConfigError: something that is not the URL of a server.
    """

    def __init__(self, base_urls: Sequence[str], api_key: str | None, timeout: float) -> None:
        self.servers = [Server.at(url, api_key) for url in base_urls]
        self._api_key = api_key
        self._connections = Connections(timeout)
        self._affinity = Affinity(_SLACK)
        self._probes: dict[int, asyncio.Task[None]] = {}
        self._lock = threading.Lock()  # of the servers' health, the affinity and the probes

    def choose(self, conversation: str = "") -> Server:
        """A server that is well: the one that has this conversation's prefix, or the least busy one.

        If none is well, the one that has rested longest or will have first.
        """
        if len(self.servers) == 1:
            return self.servers[0]
        with self._lock:
            well = {number: one.in_flight for number, one in enumerate(self.servers) if not one.failures}
            if len(well) < len(self.servers):
                self._probe_rested()
            if not well:
                return min(self.servers, key=lambda server: server.down_until)
            return self.servers[self._affinity.choose(conversation, well)]

    def _probe_rested(self) -> None:
        """Ask servers that have rested long enough whether they are well again."""
        now = time.monotonic()
        for number, server in enumerate(self.servers):
            if not server.failures or server.down_until > now:
                continue
            last = self._probes.get(number)
            # The loop of a probe may have ended before the probe did.
            if last is None or last.done() or last.get_loop().is_closed():
                self._probes[number] = asyncio.ensure_future(self._probe(server))

    async def _probe(self, server: Server) -> None:
        # The outcome is written into `server` by the exchange itself.
        with contextlib.suppress(EngineError):
            await self._exchange(server, "GET", "/v1/models", None, _PROBE_SECONDS)

    async def post(self, server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON to a server and return the JSON object it answers; of completions see `wire.loads_answer`."""
        answer = await self._exchange(server, "POST", path, body)
        if not isinstance(answer, dict):
            raise EngineProtocolError(
                f"{server.url} answered with JSON that is not an object but a {type(answer).__name__}",
                retryable=True,
            )
        return answer

    async def get(self, server: Server, path: str) -> Any:
        """GET any JSON from a server."""
        return await self._exchange(server, "GET", path, None)

    async def aclose(self) -> None:
        """Close connections and end probes."""
        with self._lock:
            probes, self._probes = list(self._probes.values()), {}
        own = asyncio.get_running_loop()
        for probe in probes:
            if probe.get_loop() is own:
                probe.cancel()
            else:
                with contextlib.suppress(RuntimeError):  # its loop was closed
                    probe.get_loop().call_soon_threadsafe(probe.cancel)
        await asyncio.gather(*(p for p in probes if p.get_loop() is own), return_exceptions=True)
        await self._connections.aclose()

    async def _exchange(
        self,
        server: Server,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        seconds: float | None = None,
    ) -> Any:
        data = None if body is None else wire.dumps(body)
        with self._lock:
            server.in_flight += 1
        try:
            reply = await self._connections.exchange(server, method, path, data, seconds)
            answer = self._read(reply, server, path)
        except EngineError as error:
            with self._lock:
                self._record(server, error)
            raise
        finally:
            with self._lock:
                server.in_flight -= 1
        if server.failures:
            with self._lock:
                server.answered()
        return answer

    def _record(self, server: Server, error: EngineError) -> None:
        """What a failed exchange says about its server."""
        if isinstance(error, EngineOverloaded):
            server.failed(error.retry_after)
            if any(not other.failures for other in self.servers):
                error.retry_after = None  # another server can take the request at once
        elif isinstance(error, EngineUnavailable | EngineTimeout):
            server.failed()
        else:
            server.answered()

    def _read(self, reply: Reply, server: Server, path: str) -> Any:
        """The JSON of an answer. Its charset is UTF-8, whatever the server calls it."""
        if reply.status >= 300:
            raise status_error(server.url, reply.status, self._text(reply), reply.headers)
        try:
            answer = (wire.loads_answer if path in _ANSWERS else wire.loads)(reply.body)
        except (ValueError, RecursionError) as error:
            streams = reply.body.lstrip().startswith((b"data:", b"event:"))
            raise EngineProtocolError(
                f"{server.url} answered with something that is not JSON: {self._text(reply)[:EXCERPT]!r}",
                hint="it streams although it was not asked to: switch that off in the server or the proxy before it"
                if streams
                else "is this the address of an OpenAI-compatible server?",
                retryable=not streams,
            ) from error
        said = stated(answer)
        if said is not None:
            raise stated_error(server.url, said, self._text(reply))
        return answer

    def _text(self, reply: Reply) -> str:
        """The beginning of an answer; a server that echoes the key must not bring it into a log."""
        text = reply.body[: 100 * EXCERPT].decode("utf-8", "replace")
        return text.replace(self._api_key, "***") if self._api_key else text


def may_have_written(error: EngineError) -> bool:
    """Whether a server may have written tokens for a request that failed like this, which no answer tells."""
    if isinstance(error, EngineOverloaded):
        return error.behind
    refused = isinstance(error, EngineRequestError | ContextOverflow)
    return was_sent(error) and (not refused or isinstance(error, AnswerWithheld))
