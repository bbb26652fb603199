"""The one bridge from synchronous code to coroutines: an event loop in a background thread of its own.

There is one such loop in a process, and it lives as long as the process does. So connections and locks that an
engine made in one synchronous call serve the next one, a notebook's running loop is no obstacle, and calls from
several threads run concurrently on the same loop.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from genprm.aio.concurrency import cancel_all

T = TypeVar("T")

_EXIT_SECONDS = 5.0
"""How long the exit of the process waits for tasks that clean up after their cancellation."""


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop, wait until it ends, and return its result.

    Callable from any thread, also from one whose own event loop is running (a notebook's cell); that loop stands
    still meanwhile. The coroutine sees the caller's context variables. Its exception is raised here with the
    traceback that it had there. An interrupt (Ctrl-C) cancels the coroutine, waits for its clean-up and is raised
    again; a second one waits for nothing.

    Raises:
        RuntimeError: called from a coroutine or callback of the background loop itself, which would wait for
            itself for ever.
    """
    try:
        bridge = _bridge("run_sync")
    except RuntimeError:
        coroutine.close()
        raise
    result: T = bridge.run(coroutine)
    return result


async def await_on_bridge(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and await its result on this one.

    For objects that callers on several loops share: whatever they hold lives on one loop. A cancelled caller cancels the
    coroutine, and does not wait for its clean-up.
    """
    bridge = _current_bridge()
    here = asyncio.get_running_loop()
    if here is bridge.loop:
        return await coroutine
    call, ended = _Call(coroutine), asyncio.Event()

    def wake(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop has ended meanwhile
            here.call_soon_threadsafe(ended.set)

    call.outcome.add_done_callback(wake)
    bridge.loop.call_soon_threadsafe(call.start)
    try:
        await ended.wait()
    except asyncio.CancelledError:
        bridge.loop.call_soon_threadsafe(call.cancel)
        raise
    result: T = call.outcome.result()
    return result


def iterate_sync(items: AsyncIterator[T]) -> Iterator[T]:
    """Yield the items of an asynchronous iterator, which runs on the background loop.

    Items are asked for one by one, as the consumer takes them; between them the tasks that the iterator has
    started keep running. When the consumer stops early, or is interrupted, an iterator that has `aclose` (every
    asynchronous generator) is closed.

    Raises:
        RuntimeError: used on the background loop itself, as for `run_sync`.
    """
    bridge = _bridge("iterate_sync")
    try:
        while True:
            # StopAsyncIteration cannot pass through a future as an exception, so the end is a value.
            item = bridge.run(_next(items))
            if item is _END:
                return
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            bridge.finish(_awaited(close))


_END: Any = object()


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


async def _awaited(close: Callable[[], Awaitable[None]]) -> None:
    await close()


class _Call:
    """A coroutine on its way through the background loop; all methods run on that loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.outcome: Future[Any] = Future()
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin, in a copy of the caller's context."""
        try:
            self._task = asyncio.get_running_loop().create_task(self._coroutine)
        except Exception as error:
            self.outcome.set_exception(error)  # no coroutine
        else:
            self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        """Cancel; a call that was interrupted before it began never does."""
        if self._task is not None:
            self._task.cancel()
        elif not self.outcome.done():
            self._coroutine.close()
            self.outcome.set_exception(asyncio.CancelledError())

    def _settle(self, task: asyncio.Task[Any]) -> None:
        try:
            self.outcome.set_result(task.result())
        except BaseException as error:
            self.outcome.set_exception(error)


class _Bridge:
    """A running event loop and its thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._ending = False
        self.thread = threading.Thread(target=self._live, name="genprm-sync-bridge", daemon=True)
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end; called from another thread."""
        call = _Call(coroutine)
        try:
            self.loop.call_soon_threadsafe(call.start)
            return call.outcome.result()
        except BaseException:
            if self.loop.is_closed():  # the process is ending
                coroutine.close()
            elif not call.outcome.done():  # raised in this thread: an interrupt
                self.loop.call_soon_threadsafe(call.cancel)
                call.outcome.exception()
            raise
        finally:
            del call  # an exception, its traceback and this frame would hold each other

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a clean-up; waits for it unless the garbage collector calls from the loop's own thread.

        Once the loop has ended there is nothing left to do: it closes its generators when it ends.
        """
        if self.loop.is_closed():
            coroutine.close()
        elif threading.current_thread() is self.thread:
            self.loop.call_soon(_Call(coroutine).start)
        else:
            self.run(coroutine)

    def end(self) -> None:
        """Cancel what still runs, and stop; called from another thread."""
        self._ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(_EXIT_SECONDS)

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._ending:
            # A task that raised SystemExit ends `run_forever`; whoever awaits the task has the exception.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
        try:
            self.loop.run_until_complete(cancel_all(asyncio.all_tasks(self.loop)))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


_lock = threading.Lock()
_current: _Bridge | None = None
_left_behind: list[_Bridge] = []


def _current_bridge() -> _Bridge:
    """The process's bridge, made when it is first needed."""
    global _current  # noqa: PLW0603
    with _lock:
        if _current is None:
            _current = _Bridge()
        return _current


def _bridge(asker: str) -> _Bridge:
    """The bridge, for a caller that will wait for it."""
    bridge = _current_bridge()
    if threading.current_thread() is bridge.thread:
        raise RuntimeError(
            f"{asker} was called on the event loop that it would have to wait for; await the coroutine instead"
        )
    return bridge


def _after_fork() -> None:
    """A forked child has its parent's loop, but not the thread that runs it.

    The loop is kept and never closed: closing it would take the parent's wake-up pipe out of the selector that
    both share.
    """
    global _lock, _current  # noqa: PLW0603
    _lock = threading.Lock()
    if _current is not None:
        _left_behind.append(_current)
        _current = None


def _at_exit() -> None:
    global _current
    with _lock:
        bridge, _current = _current, None
    if bridge is not None:
        bridge.end()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
