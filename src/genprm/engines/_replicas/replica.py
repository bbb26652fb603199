"""This process's end of one replica."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import threading
import time
from typing import Any

from genprm.engines._replicas.packing import pack_request, unpack_completion
from genprm.engines._replicas.starting import start_process
from genprm.engines._replicas.wires import CANCEL, Answer, Outbox, read_in_thread
from genprm.engines.base import Completion, Request
from genprm.errors import EngineError, EngineUnavailable
from genprm.records import Usage

_ENDS_WITHIN = 10.0


class Replica:
    """One process, and the answers that are awaited from it, from any number of event loops.

    Attributes:
        load: requests chosen for this replica and not answered yet.
        lost: whether the process ended.
        answered: whether it ever answered anything.
        began: when it was started, by `time.monotonic()`.

    Args:
        options: of the local engine. The process loads it while this one continues.

    Raises:
        OSError, EOFError, RuntimeError: the process, or the thread that reads from it, cannot be started.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self.began = time.monotonic()
        try:
            self.process = start_process(theirs, options)
        except BaseException:
            self._connection.close()
            raise
        finally:
            theirs.close()
        self.load = 0
        self.lost = False
        self.answered = False
        self._lock = threading.Lock()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._outbox = Outbox(self._connection, lambda number, error: self._hand_over([(number, error)]))
        try:
            read_in_thread(self._connection, self._take)
        except BaseException:
            self._connection.close()  # with which the process ends
            raise

    async def ask(self, requests: list[Request]) -> list[Completion]:
        """Completions, or as many failures if the process is gone."""
        answer = await self._call([pack_request(request) for request in requests])
        if isinstance(answer, EngineError):
            gone = isinstance(answer, EngineUnavailable)  # and what it wrote, nobody counted
            usage = Usage(requests=1, uncounted=int(gone))
            return [Completion(finish_reason="error", error=answer, usage=usage) for _ in requests]
        return [unpack_completion(completion) for completion in answer]

    def release(self, count: int, _: object) -> None:
        """Lower the load; called when the task that asked is done, also if it was cancelled before it began."""
        self.load -= count

    async def check(self) -> dict[str, Any]:
        """The engine's description; raises its error if it cannot serve."""
        answer = await self._call(None)
        if isinstance(answer, EngineError):
            raise answer
        facts: dict[str, Any] = answer
        return facts

    def ask_to_end(self) -> None:
        """Let the process end by itself; to be called before `close`."""
        self._outbox.end()

    def close(self) -> None:
        """Wait until the process has ended, and end it if that takes too long."""
        self.process.join(_ENDS_WITHIN)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()
        self._connection.close()

    async def _call(self, requests: Any) -> Any:
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self.lost:
                return _gone()
            self._waiting[number] = future
        self._outbox.add((number, requests))
        try:
            return await future
        except asyncio.CancelledError:
            with self._lock:
                wanted = self._waiting.pop(number, None) is not None
            if wanted:
                self._outbox.add((number, CANCEL))
            raise

    def _take(self, answers: list[Answer] | None) -> None:
        """Note what the process sent; None means that it ended. Runs in a thread."""
        if answers is not None:
            self.answered = True
            self._hand_over(answers)
            return
        with self._lock:
            self.lost = True
            waiting = list(self._waiting)
        self._hand_over([(number, _gone()) for number in waiting])

    def _hand_over(self, answers: list[Answer]) -> None:
        """Give answers to the loops that wait for them."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        with self._lock:
            for number, answer in answers:
                future = self._waiting.pop(number, None)
                if future is None:  # cancelled meanwhile
                    continue
                by_loop.setdefault(future.get_loop(), []).append((future, answer))
        for loop, pairs in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed, nobody waits any more
                loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in pairs:
        if not future.done():
            future.set_result(answer)


def _gone() -> EngineUnavailable:
    return EngineUnavailable(
        "a model process ended",
        hint="Run the command again. If it happens again, memory may be short: set replicas to a smaller number.",
    )
