"""Bounded concurrency and retries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from genprm.errors import GenPRMError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how long to wait before a retryable call is made again.

    Attributes:
        attempts: calls at most, the first one included.
        base_seconds: upper end of the first wait; it doubles from one attempt to the next.
        cap_seconds: no wait is longer, whatever a server asks for.
    """

    attempts: int = 5
    base_seconds: float = 0.5
    cap_seconds: float = 30.0

    def wait_seconds(self, attempt: int, retry_after: float | None, rng: random.Random) -> float:
        """Seconds to wait after failed attempt number `attempt` (0 for the first).

        Without a server's wish the wait is drawn between half and all of the doubled bound, so that
        callers that failed together do not come back together. A server's `Retry-After` is a lower
        bound (up to the cap), with a little jitter on top.
        """
        bound: float = min(self.cap_seconds, self.base_seconds * 2.0**attempt)
        drawn = bound * (0.5 + 0.5 * rng.random())
        if retry_after is None:
            return drawn
        return min(self.cap_seconds, max(retry_after, 0.0) + 0.1 * drawn)


async def retry(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    rng: random.Random | None = None,
    on_retry: Callable[[GenPRMError, float], None] | None = None,
) -> T:
    """Await `call()` until it succeeds, fails for good, or the policy's attempts are used up.

    Only a `GenPRMError` with `retryable` is retried; a numeric attribute `retry_after` on it (seconds)
    is respected. The last error is raised as it came. `on_retry(error, wait)` is called before every wait.
    """
    attempt = 0
    while True:
        try:
            return await call()
        except GenPRMError as error:
            attempt += 1
            if not error.retryable or attempt >= policy.attempts:
                raise
            rng = rng or random.Random()
            wait = policy.wait_seconds(attempt - 1, getattr(error, "retry_after", None), rng)
            if on_retry is not None:
                on_retry(error, wait)
        await asyncio.sleep(wait)


async def stream_map(
    function: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], limit: int
) -> AsyncGenerator[tuple[int, R], None]:
    """Apply `function` with at most `limit` calls in flight; yield (index, result) as calls finish.

    `items` is read only as fast as calls finish, and finished results wait for nobody but the
    consumer, so memory stays flat however many items there are. The first exception cancels the calls
    in flight and is raised; leaving the loop early cancels them too.
    """
    if limit < 1:
        raise ValueError("limit must be at least 1")
    source = _Source(items)
    running: dict[asyncio.Task[R], int] = {}
    fetching: asyncio.Task[T] | None = None
    index = 0
    try:
        while True:
            # An item that is there at once is started at once; one that has to be awaited holds up nobody.
            while source.open and fetching is None and len(running) < limit:
                fetching = asyncio.ensure_future(source.fetch()) if source.slow else None
                if fetching is None:
                    entry = source.next()
                    if entry is not _END:
                        running[asyncio.ensure_future(_apply(function, cast("T", entry)))] = index
                        index += 1
            waited = {*running, *([fetching] if fetching is not None else [])}
            if not waited:
                return
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if fetching in done:
                assert fetching is not None
                entry, fetching = fetching.result(), None
                if entry is not _END:
                    running[asyncio.ensure_future(_apply(function, entry))] = index
                    index += 1
            for task in done & running.keys():
                number = running.pop(cast("asyncio.Task[R]", task))
                yield number, cast("R", task.result())
    finally:
        await cancel_all([*running, *([fetching] if fetching is not None else [])])


_END: Any = object()


class _Source:
    """Items of an iterable, or of an asynchronous one (`slow`), each of which may have to be awaited."""

    def __init__(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        self.open = True
        self.slow = isinstance(items, AsyncIterable)
        self._items: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)

    def next(self) -> Any:
        """The next item, or `_END`."""
        entry = next(self._items, _END)
        self.open = entry is not _END
        return entry

    async def fetch(self) -> Any:
        """The next item of an asynchronous source, or `_END`."""
        entry = await anext(self._items, _END)
        self.open = entry is not _END
        return entry


async def bounded_map(function: Callable[[T], Awaitable[R]], items: Iterable[T], limit: int) -> list[R]:
    """Like `stream_map`, but return all results, in the order of the items."""
    found = [pair async for pair in stream_map(function, items, limit)]
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until each has ended; their outcomes are dropped."""
    pending = list(tasks)
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.gather(*pending, return_exceptions=True)


async def _apply(function: Callable[[T], Awaitable[R]], item: T) -> R:
    # Called in here, so that a task that is cancelled before its start leaves no coroutine that nobody awaits.
    return await function(item)


def chunked(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Split a sequence into consecutive pieces of at most `size` items."""
    if size < 1:
        raise ValueError("size must be at least 1")
    return [items[start : start + size] for start in range(0, len(items), size)]
