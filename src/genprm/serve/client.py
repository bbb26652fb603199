"""Clients of the native interface."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from genprm.aio import RetryPolicy, iterate_sync, retry, run_sync
from genprm.errors import (
    ConfigError,
    DataError,
    EngineProtocolError,
    EngineTimeout,
    EngineUnavailable,
    GenPRMError,
    Overloaded,
)
from genprm.records import VerifyItem
from genprm.serve.wire import Served, ServedBatch, ServedStep

if TYPE_CHECKING:
    import aiohttp

ModelT = TypeVar("ModelT", bound=BaseModel)
_EXCERPT = 300
_IN_A_HEADER = re.compile(r"[!-~]+")
_MARGIN_SECONDS = 30.0
_LONGEST_LINE = 64 << 20
_STATUSES = {"overloaded": 429, "data": 422}
"""Of failures within a stream, by their kind."""


class AsyncRewardClient:
    """Asks a reward server (`genprm serve`) for verifications. An async context manager, used on one event loop.

    A server that is overloaded or does not answer is asked again; equal requests share one verification there, so
    asking again costs nothing that was begun.

    Args:
        url: of the server, for example `http://localhost:8400`.
        api_key: if the server asks for one.
        timeout: seconds to wait for an answer. Verifications take long, so it is sent along as the request's deadline.
        attempts: requests at most, the first one included.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, timeout: float = 600.0, attempts: int = 5
    ) -> None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"'{url}' is not the URL of a server", hint="For example http://localhost:8400."
            )
        if api_key and not _IN_A_HEADER.fullmatch(api_key):
            raise ConfigError(
                "the API key has a character that no key has",
                hint="Is there a space or a line break around it, as at the end of a file?",
            )
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout
        self._policy = RetryPolicy(attempts=attempts)
        self._session: aiohttp.ClientSession | None = None

    async def verify(self, problem: str, steps: Sequence[str] | str, *, rationales: bool = True) -> Served:
        """Verify one solution.

        Args:
            problem: its text.
            steps: the paragraphs, or one text that the server splits.
            rationales: whether to bring what the verifier wrote.

        Raises:
            DataError: the server cannot use the request.
            ConfigError: it does not take the API key.
            Overloaded, EngineUnavailable, EngineTimeout: it did not answer in any attempt.
            EngineProtocolError: its answer cannot be read.
        """
        body = {"problem": problem, **_solution(steps), **self._options(rationales)}
        return _read(Served, await self._post("/v1/verify", body))

    async def verify_many(self, items: Iterable[VerifyItem], *, rationales: bool = True) -> list[Served]:
        """Verify several solutions in one request; the answers have their order and their ids. See `verify`."""
        asked = [_asked(item) for item in items]
        if not asked:
            return []
        body = {"items": asked, **self._options(rationales)}
        return list(_read(ServedBatch, await self._post("/v1/verify/batch", body)).results)

    async def stream(
        self, problem: str, steps: Sequence[str] | str, *, rationales: bool = True
    ) -> AsyncGenerator[ServedStep | Served, None]:
        """As `verify`, but yield each step's verdict as it stands, and the whole answer at the end.

        Nothing is asked again. Closing the generator early ends the verification, unless others wait for it.
        """
        body = {"problem": problem, **_solution(steps), **self._options(rationales), "stream": True}
        async with self._exchange("/v1/verify", body) as response:
            async for event, data in _events(response):
                if event == "step":
                    yield _read(ServedStep, data)
                elif event == "result":
                    yield _read(Served, data)
                    return
                else:
                    raise _failure(_STATUSES.get(_kind(data), 500), data, {})
        raise EngineUnavailable(f"{self._url} ended the stream before its result")

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> AsyncRewardClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _options(self, rationales: bool) -> dict[str, Any]:
        return {"rationales": rationales, "deadline_seconds": self._timeout}

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        async def ask() -> bytes:
            async with self._exchange(path, body) as response:
                return await response.read()

        return await retry(ask, self._policy)

    @asynccontextmanager
    async def _exchange(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response; everything else is an error with a type."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, read_bufsize=_LONGEST_LINE)
        data = json.dumps(body, allow_nan=False).encode()
        # The server keeps the deadline itself; this ends the wait for one that is gone.
        limit = aiohttp.ClientTimeout(total=self._timeout + _MARGIN_SECONDS)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                self._url + path, data=data, headers=headers, timeout=limit
            ) as response:
                if response.status != 200:
                    raise _failure(response.status, await response.read(), response.headers)
                yield response
        except TimeoutError:
            raise EngineTimeout(f"{self._url} did not answer within {self._timeout:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(
                f"{self._url} does not answer: {str(error) or type(error).__name__}",
                hint="Is 'genprm serve' running there?",
            ) from None


class RewardClient:
    """`AsyncRewardClient` for synchronous programs; usable from any thread. A context manager."""

    def __init__(
        self, url: str, *, api_key: str | None = None, timeout: float = 600.0, attempts: int = 5
    ) -> None:
        self._client = AsyncRewardClient(url, api_key=api_key, timeout=timeout, attempts=attempts)

    def verify(self, problem: str, steps: Sequence[str] | str, *, rationales: bool = True) -> Served:
        """See `AsyncRewardClient.verify`."""
        return run_sync(self._client.verify(problem, steps, rationales=rationales))

    def verify_many(self, items: Iterable[VerifyItem], *, rationales: bool = True) -> list[Served]:
        """See `AsyncRewardClient.verify_many`."""
        return run_sync(self._client.verify_many(items, rationales=rationales))

    def stream(
        self, problem: str, steps: Sequence[str] | str, *, rationales: bool = True
    ) -> Iterator[ServedStep | Served]:
        """See `AsyncRewardClient.stream`."""
        return iterate_sync(self._client.stream(problem, steps, rationales=rationales))

    def close(self) -> None:
        """Close the connections. Idempotent."""
        run_sync(self._client.aclose())

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _asked(item: VerifyItem) -> dict[str, Any]:
    if not isinstance(item, VerifyItem):
        raise DataError(f"an item cannot be {item!r:.60}", hint="Give genprm.VerifyItem objects.")
    return {"id": item.id, "problem": item.problem, "steps": item.steps}


def _solution(steps: Sequence[str] | str) -> dict[str, Any]:
    if isinstance(steps, str):
        return {"solution": steps}
    if not isinstance(steps, list | tuple) or not all(isinstance(step, str) for step in steps):
        raise DataError(f"a solution cannot be {steps!r:.60}", hint="Give a text, or a list of steps.")
    return {"steps": list(steps)}


def _read(model: type[ModelT], data: bytes) -> ModelT:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = str(error.errors(include_url=False)[0]["msg"])
        raise EngineProtocolError(
            f"the reward server's answer cannot be read: {first}",
            hint="Server and client may be of different versions.",
        ) from None


def _failure(status: int, body: bytes, headers: Any) -> GenPRMError:
    """The error that an answer other than 200 stands for."""
    try:
        stated = json.loads(body)["error"]
        message, hint = str(stated["message"]), str(stated.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        message, hint = body[:_EXCERPT].decode("utf-8", "replace").strip() or "no reason", ""
    message = f"the reward server answered {status}: {message}"
    if status == 429:
        return Overloaded(message, retry_after=_seconds(headers.get("Retry-After")), hint=hint)
    if status in (401, 403):
        return ConfigError(message, hint=hint)
    if status in (413, 422):
        return DataError(message, hint=hint)
    return EngineUnavailable(message, hint=hint, retryable=status in (408, 502, 503, 504))


def _kind(body: bytes) -> str:
    """A failure's kind; empty if it cannot be read."""
    try:
        return str(json.loads(body)["error"]["kind"])
    except (ValueError, KeyError, TypeError):
        return ""


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or 1.0)
    except ValueError:  # a date
        return 1.0
    return seconds if 0 <= seconds < math.inf else 1.0


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, bytes]]:
    """Server-sent events: their names and data."""
    event = ""
    while line := await response.content.readline():
        name, _, value = line.rstrip(b"\r\n").partition(b": ")
        if name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"data":
            yield event, value
