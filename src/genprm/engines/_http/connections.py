"""Plain HTTP exchanges with aiohttp, from any event loop and any thread; failures as typed errors."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from genprm.engines._http.servers import Server
from genprm.errors import (
    EngineError,
    EngineProtocolError,
    EngineRequestError,
    EngineTimeout,
    EngineUnavailable,
)

_CONNECT_SECONDS = 10.0
# uvicorn closes a connection that was idle for 5 seconds; a request on its way at that moment would be lost.
_IDLE_SECONDS = 4.0
# Far above the longest answer with log-probabilities. What is unpacked counts: a few bytes must not fill the memory.
_LONGEST_ANSWER = 128 << 20
_TIMEOUT_HINT = "raise the timeout, or lower max_concurrency or max_tokens"
_EXCERPT = 120
_closing: set[asyncio.Task[None]] = set()
"""Keeps tasks that nobody waits for from being collected."""
_Sessions = dict[asyncio.AbstractEventLoop, aiohttp.ClientSession]


class Reply(NamedTuple):
    """What came back.

    Attributes:
        headers: names in any case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """Open connections, a pool for each event loop: connections cannot move from one loop to another.

    Nothing bounds their number; whoever uses this bounds the exchanges under way.

    Args:
        seconds: how long an exchange may take, unless it says otherwise.
    """

    def __init__(self, seconds: float) -> None:
        self._bounds = _bounds(seconds)
        self._sessions: _Sessions = {}
        self._lock = threading.Lock()
        # aiohttp writes to the log about every session that is not closed, also when the process ends.
        weakref.finalize(self, _abandon, self._sessions)

    async def exchange(
        self, server: Server, method: str, path: str, data: bytes | None, seconds: float | None = None
    ) -> Reply:
        """One request and its whole answer, whatever its status is. Redirections are not followed.

        Raises:
            EngineTimeout: no answer in time.
            EngineUnavailable: no connection, one that broke, or one that does not speak HTTP.
            EngineProtocolError: an answer that is larger than any answer to a request can be.
            EngineRequestError: the server's address cannot be one.
        """
        bounds = self._bounds if seconds is None else _bounds(seconds)
        try:
            # `_whole` gives the connection back: a context manager would find nothing left to do, and costs a fifth of
            # the exchange.
            response = await self._session().request(
                method,
                server.url + path,
                data=data,
                headers=server.headers,
                proxy=server.proxy,
                timeout=bounds,
                allow_redirects=False,
            )
            return Reply(response.status, response.headers, await _whole(response, server))
        except aiohttp.ConnectionTimeoutError as error:
            raise EngineTimeout(
                f"{server.url} did not accept a connection in time", hint=_TIMEOUT_HINT
            ) from error
        except TimeoutError as error:
            raise EngineTimeout(
                f"{server.url} did not answer within {bounds.total:g} s", hint=_TIMEOUT_HINT
            ) from error
        except aiohttp.InvalidURL as error:
            raise EngineRequestError(
                f"{server.url} is not an address", hint="give base_urls in the form http://HOST:PORT"
            ) from error
        except aiohttp.ClientSSLError as error:
            raise EngineUnavailable(
                f"no secure connection to {server.url}: {error}",
                hint="does the server speak https, and does this machine trust its certificate?",
                retryable=False,
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise EngineUnavailable(
                f"cannot reach {server.url}: {error.strerror or error}",
                hint=f"is a server running at {server.url}?",
            ) from error
        except aiohttp.ClientResponseError as error:
            said = " ".join(error.message.split())[:_EXCERPT]
            raise EngineUnavailable(
                f"{server.url} answered with something that is not HTTP: {said}",
                hint="is this the address and the scheme (http or https) of an OpenAI-compatible server?",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(
                f"{server.url} dropped the connection ({type(error).__name__})",
                hint="see the server's own log",
            ) from error

    async def aclose(self) -> None:
        """Close the connections of this loop, and those of other loops as far as they still run.

        The others are not waited for: a loop may be blocked until this one is done, as that of a notebook whose
        cell calls `close`.
        """
        with self._lock:
            own = self._sessions.pop(asyncio.get_running_loop(), None)
            _abandon(self._sessions)
        if own is not None:
            await own.close()

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            with self._lock:
                ended = {one: self._sessions.pop(one) for one in list(self._sessions) if one.is_closed()}
                _abandon(ended)
                session = self._sessions[loop] = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
        return session


def was_sent(error: EngineError) -> bool:
    """Whether there was a connection, on which a request that failed like this may have reached its server."""
    return not isinstance(error.__cause__, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


async def _whole(response: aiohttp.ClientResponse, server: Server) -> bytes:
    """The body of an answer, unpacked. Its connection is free again if it was read to its end, and closed otherwise."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.content.iter_any():
            size += len(part)
            if size > _LONGEST_ANSWER:
                raise EngineProtocolError(
                    f"{server.url} answered with more than {_LONGEST_ANSWER >> 20} MB",
                    hint="is this the address of an OpenAI-compatible server?",
                )
            parts.append(part)
    except BaseException:
        response.close()
        raise
    return b"".join(parts)


def _bounds(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(seconds, sock_connect=min(_CONNECT_SECONDS, seconds))


def _abandon(sessions: _Sessions) -> None:
    """Close sessions of loops that are not this one, without waiting."""
    while sessions:
        loop, session = sessions.popitem()
        connector = session.connector
        session.detach()
        if connector is None:
            continue
        if loop.is_closed():
            # Nothing is left to wait for: this only marks it as closed.
            for _ in connector.close().__await__():
                pass
        elif loop.is_running():
            # The loop can end between the question and the call.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_close, connector)


def _close(connector: aiohttp.BaseConnector) -> None:
    """Close a connector on its own loop; a task of that loop sees it through."""
    task = asyncio.ensure_future(_closed(connector))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _closed(connector: aiohttp.BaseConnector) -> None:
    await connector.close()
