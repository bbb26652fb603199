"""One JSON exchange with one of several equal servers: choice, health, and errors with types."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpx

from genprm.aio import cancel_all
from genprm.engines._common.affinity import Affinity
from genprm.errors import (
    ConfigError,
    ContextOverflow,
    EngineError,
    EngineProtocolError,
    EngineRequestError,
    EngineTimeout,
    EngineUnavailable,
)

_OVERFLOW = re.compile(
    r"exceed_context_size|maximum (model|context) length|context (size|window|length)|too many tokens"
    r"|longer than the (max|model|context)|max_model_len",
    re.IGNORECASE,
)
_EXCERPT = 300
_URL_HINT = "give base_urls in the form http://HOST:PORT"
_LONGEST_REST = 60.0
_PROBE_SECONDS = 10.0
_CONNECTIONS = 8
# A conversation stays with its server unless that one has so many requests more than another.
_SLACK = 4


class EngineOverloaded(EngineUnavailable):
    """The server asked to come back later; `retry_after` is its wish in seconds, None without one."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@dataclass(slots=True)
class Server:
    """One base URL with what is known about its health.

    Attributes:
        url: without a trailing slash and without `/v1`.
        in_flight: exchanges under way.
        failures: failures in a row; a server with any is avoided until it answers a probe.
        down_until: `time.monotonic()` before which it is not probed.
    """

    url: str
    in_flight: int = 0
    failures: int = 0
    down_until: float = 0.0

    @property
    def shown(self) -> str:
        """The URL without a user name and password."""
        parsed = httpx.URL(self.url)
        return str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else self.url

    def failed(self, rest: float | None = None) -> None:
        """Leave it alone for a while: as long as it asked for, or longer after each failure in a row.

        Exchanges that fail while it rests were under way together and count as one failure.
        """
        if self.failures and time.monotonic() < self.down_until:
            return
        self.failures += 1
        doubled = min(30.0, 0.5 * 2.0 ** (self.failures - 1))
        self.down_until = time.monotonic() + (doubled if rest is None else min(rest, _LONGEST_REST))

    def answered(self) -> None:
        """Forget earlier failures."""
        self.failures = 0
        self.down_until = 0.0


@dataclass(slots=True)
class _Client:
    """An httpx client with few connections: for every request it looks at all of them, in pairs."""

    http: httpx.AsyncClient
    in_flight: int = 0


class Transport:
    """A pool of equal servers.

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
        self.servers = [Server(_normal(url)) for url in base_urls]
        self._api_key = api_key
        self._timeout = httpx.Timeout(timeout, connect=min(10.0, timeout))
        self._affinity = Affinity(_SLACK)
        self._probes: dict[int, asyncio.Task[None]] = {}
        self._clients: list[_Client] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def choose(self, conversation: str = "") -> Server:
        """A server that is well: the one that has this conversation's prefix, or the least busy one.

        If none is well, the one that has rested longest or will have first.
        """
        loads = {
            number: server.in_flight for number, server in enumerate(self.servers) if not server.failures
        }
        if len(loads) < len(self.servers) and len(self.servers) > 1:
            self._probe_rested()
        if not loads:
            return min(self.servers, key=lambda server: server.down_until)
        return self.servers[self._affinity.choose(conversation, loads)]

    def _probe_rested(self) -> None:
        """Ask servers that have rested long enough whether they are well again."""
        self._bind()
        now = time.monotonic()
        for number, server in enumerate(self.servers):
            if server.failures and server.down_until <= now and number not in self._probes:
                task = asyncio.ensure_future(self._probe(server))
                self._probes[number] = task
                task.add_done_callback(partial(self._probed, number))

    def _probed(self, number: int, task: asyncio.Task[None]) -> None:
        if self._probes.get(number) is task:
            del self._probes[number]

    async def _probe(self, server: Server) -> None:
        # The outcome is written into `server` by the exchange itself.
        with contextlib.suppress(EngineError):
            await self._exchange(server, "GET", "/v1/models", None, httpx.Timeout(_PROBE_SECONDS))

    async def post(self, server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON to a server and return the JSON object it answers."""
        return await self._exchange(server, "POST", path, body)

    async def get(self, server: Server, path: str) -> dict[str, Any]:
        """GET a JSON object from a server."""
        return await self._exchange(server, "GET", path, None)

    async def aclose(self) -> None:
        """Close connections."""
        clients, self._clients = self._clients, []
        probes = list(self._probes.values())
        if self._loop is asyncio.get_running_loop():
            await _close(clients, probes)
        else:
            self._close_elsewhere(clients, probes)

    def _bind(self) -> None:
        """Connections and probes cannot move from one event loop to another: a new loop starts afresh."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            idle = [client for client in self._clients if not client.in_flight]
            self._close_elsewhere(idle, list(self._probes.values()))
            self._loop = loop
            self._clients = []
            self._probes = {}

    def _close_elsewhere(self, clients: list[_Client], probes: list[asyncio.Task[None]]) -> None:
        """Close connections on the loop that they belong to, if it still runs, without waiting.

        It may be blocked until this loop is done: the loop of a notebook whose cell calls `close`.
        """
        if self._loop is not None and self._loop.is_running():
            # The loop can end between the question and the call.
            with contextlib.suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(_close(clients, probes), self._loop)

    def _client(self) -> _Client:
        """The first client with a free connection."""
        self._bind()
        for client in self._clients:
            if client.in_flight < _CONNECTIONS:
                return client
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_CONNECTIONS)
        self._clients.append(
            _Client(httpx.AsyncClient(timeout=self._timeout, headers=headers, limits=limits))
        )
        return self._clients[-1]

    async def _exchange(
        self,
        server: Server,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        bounds: httpx.Timeout | None = None,
    ) -> dict[str, Any]:
        client = self._client()
        server.in_flight += 1
        client.in_flight += 1
        try:
            response = await client.http.request(
                method, server.url + path, json=body, timeout=bounds or self._timeout
            )
            answer = self._read(response, server)
        except EngineError as error:
            if isinstance(error, EngineOverloaded):
                server.failed(error.retry_after)
                if any(not other.failures for other in self.servers):
                    error.retry_after = None  # another server can take the request at once
            elif isinstance(error, EngineUnavailable):
                server.failed()
            else:
                server.answered()
            raise
        except httpx.TimeoutException as error:
            server.failed()
            raise EngineTimeout(
                f"{server.shown} did not answer in time ({type(error).__name__})",
                hint="raise the timeout, or lower max_concurrency or max_tokens",
            ) from error
        except httpx.ConnectError as error:
            server.failed()
            raise EngineUnavailable(
                f"cannot reach {server.shown}: {error}", hint=f"is a server running at {server.shown}?"
            ) from error
        except httpx.HTTPError as error:
            server.failed()
            raise EngineUnavailable(
                f"{server.shown} dropped the connection ({type(error).__name__})",
                hint="see the server's own log",
            ) from error
        finally:
            server.in_flight -= 1
            client.in_flight -= 1
        server.answered()
        return answer

    def _read(self, response: httpx.Response, server: Server) -> dict[str, Any]:
        text = self._scrub(response.text)
        if response.status_code >= 400:
            raise _status_error(response, server, text)
        try:
            answer = response.json()
        except ValueError as error:
            raise EngineProtocolError(
                f"{server.shown} answered with something that is not JSON: {text[:_EXCERPT]!r}",
                hint="is this the address of an OpenAI-compatible server?",
                retryable=True,
            ) from error
        if not isinstance(answer, dict):
            raise EngineProtocolError(
                f"{server.shown} answered with JSON that is no object: {text[:_EXCERPT]}"
            )
        if answer.get("error"):
            raise _request_error(server, response.status_code, _message(text))
        return answer

    def _scrub(self, text: str) -> str:
        """A server that echoes the key must not bring it into a log."""
        return text.replace(self._api_key, "***") if self._api_key else text


async def _close(clients: list[_Client], probes: list[asyncio.Task[None]]) -> None:
    await cancel_all(probes)
    await asyncio.gather(*(client.http.aclose() for client in clients))


def _normal(url: str) -> str:
    stripped = url.strip().rstrip("/")
    try:
        parsed = httpx.URL(stripped)
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"{url} is no URL: {error}", hint=_URL_HINT) from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{url} is no URL of a server", hint=_URL_HINT)
    return stripped.removesuffix("/v1").rstrip("/")


def _status_error(response: httpx.Response, server: Server, text: str) -> EngineError:
    """The typed error for an HTTP status of 400 or more."""
    status = response.status_code
    excerpt = _message(text)
    if status in {429, 502, 503, 504}:
        return EngineOverloaded(
            f"{server.shown} is overloaded or not ready (HTTP {status}): {excerpt}",
            hint="lower max_concurrency, or wait until the server has loaded its model",
            retry_after=_retry_after(response),
        )
    if status == 408:
        return EngineTimeout(f"{server.shown} gave up waiting (HTTP 408): {excerpt}")
    if status >= 500:
        if _OVERFLOW.search(text):
            return ContextOverflow(
                f"{server.shown}: {excerpt}", hint="shorten the prompt or lower max_tokens"
            )
        return EngineUnavailable(
            f"{server.shown} failed (HTTP {status}): {excerpt}", hint="see the server's log"
        )
    return _request_error(server, status, excerpt)


def _message(text: str) -> str:
    """What a server's error body says: its `error.message` and `error.type`, or its beginning."""
    try:
        error = json.loads(text)["error"]
        said = f"{error['message']} ({error['type']})" if error.get("type") else str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        said = text
    return " ".join(said.split())[:_EXCERPT]


def _request_error(server: Server, status: int, excerpt: str) -> EngineError:
    if status in {401, 403}:
        return EngineRequestError(
            f"{server.shown} refused access (HTTP {status})", hint="set the API key's environment variable"
        )
    if _OVERFLOW.search(excerpt):
        return ContextOverflow(f"{server.shown}: {excerpt}", hint="shorten the prompt or lower max_tokens")
    hint = "check the base URL and the model's name" if status == 404 else ""
    return EngineRequestError(f"{server.shown} rejected the request (HTTP {status}): {excerpt}", hint=hint)


def _retry_after(response: httpx.Response) -> float | None:
    """`Retry-After` in seconds, given as a number or as a date."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
