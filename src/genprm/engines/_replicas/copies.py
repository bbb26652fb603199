"""The copies that are there: started together with the first call, and replaced when one is lost."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from genprm.engines._replicas.replica import Replica
from genprm.errors import EngineUnavailable

_LOG = logging.getLogger(__name__)
_PAUSE_SECONDS = 30.0
"""A process that ended without an answer is replaced so long after its start: the next one may do the same."""


class Copies:
    """So many replicas, for tasks of any event loop and thread.

    Args:
        options: of the local engine.
        count: how many.
    """

    def __init__(self, options: dict[str, Any], count: int) -> None:
        self._options = options
        self._count = count
        self._lock = threading.Lock()  # of everything below
        self._replicas: tuple[Replica, ...] = ()
        self._start: Future[None] | None = None
        self._not_before = 0.0
        self._failure: EngineUnavailable | None = None  # of the last replacement
        self._closed = False

    @property
    def all(self) -> tuple[Replica, ...]:
        """Those that were started, lost ones included."""
        return self._replicas

    async def live(self) -> dict[int, Replica]:
        """The replicas that can be asked, by their place; at least one.

        Those that are missing are started first, once however many tasks wait for it. Starting a process does not wait
        for its model, so all load theirs at the same time.

        Raises:
            EngineUnavailable: the engine is closed, a process cannot be started, or all end at once.
        """
        start = self._start_if_due()
        if start is not None:
            await asyncio.wrap_future(start)
        if self._closed:
            raise EngineUnavailable("the replicated engine is closed", retryable=False)
        live = {place: replica for place, replica in enumerate(self._replicas) if not replica.lost}
        if not live:
            answered = any(replica.answered for replica in self._replicas)
            raise self._failure or EngineUnavailable(
                f"all model processes ended{'' if answered else ' before they had answered anything'}",
                hint="memory may be short: set replicas to a smaller number",
            )
        return live

    async def aclose(self) -> None:
        """End all processes. Idempotent; a start that is under way ends what it has started."""
        with self._lock:
            self._closed = True
            replicas, self._replicas = self._replicas, ()
        await asyncio.to_thread(_end, replicas)

    def _start_if_due(self) -> Future[None] | None:
        """What to wait for before the replicas can be asked; None if that is nothing."""
        if self._replicas and not any(replica.lost for replica in self._replicas):
            return None
        with self._lock:
            if self._start is not None and not self._start.done():
                return self._start
            if self._closed or (self._replicas and not any(map(self._is_due, self._replicas))):
                return None
            # A thread of its own, because the first start waits until torch is imported. Nothing waits for its end: an
            # interpreter that is to end would.
            self._start = _in_thread(self._start_missing)
            return self._start

    def _is_due(self, replica: Replica) -> bool:
        now = time.monotonic()
        proven = replica.answered or now >= replica.began + _PAUSE_SECONDS
        return replica.lost and proven and now >= self._not_before

    def _start_missing(self) -> None:
        replicas = self._replicas
        replicas = self._with_replacements(replicas) if replicas else self._first()
        with self._lock:
            if not self._closed:
                self._replicas = replicas
                return
        _end(replicas)

    def _first(self) -> tuple[Replica, ...]:
        started: list[Replica] = []
        try:
            for _ in range(self._count):
                started.append(_started(self._options))
        except BaseException:
            _end(started)
            raise
        return tuple(started)

    def _with_replacements(self, replicas: tuple[Replica, ...]) -> tuple[Replica, ...]:
        """The replicas, with new ones in the places of those that are due; if that fails, the others go on."""
        held = list(replicas)
        for place, replica in enumerate(replicas):
            if not self._is_due(replica):
                continue
            _LOG.warning("a model process ended; another one takes its place")
            try:
                held[place] = _started(self._options)
            except EngineUnavailable as error:
                self._failure = error
                self._not_before = time.monotonic() + _PAUSE_SECONDS
                if all(other.lost for other in held):
                    raise
                break
            self._failure = None
            replica.close()
        return tuple(held)


def _started(options: dict[str, Any]) -> Replica:
    try:
        return Replica(options)
    except Exception as error:  # no more processes, no more threads, inside of a process that may have none
        raise _cannot_start(error) from error


def _cannot_start(error: Exception) -> EngineUnavailable:
    said = str(error) or "the process that starts them ended"
    return EngineUnavailable(
        f"a model process cannot be started: {said}",
        hint="set replicas to a smaller number, or use the engine local, which needs no further process",
    )


def _end(replicas: Sequence[Replica]) -> None:
    for replica in replicas:
        replica.ask_to_end()
    for replica in replicas:
        replica.close()


def _in_thread(work: Callable[[], None]) -> Future[None]:
    """The outcome of work in a thread; whoever waits for it can be cancelled, it cannot."""
    outcome: Future[None] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    try:
        threading.Thread(target=run, name="genprm-replica-starter", daemon=True).start()
    except RuntimeError as error:  # no more threads
        outcome.set_exception(_cannot_start(error))
    return outcome
