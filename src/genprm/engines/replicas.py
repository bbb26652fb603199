"""Several copies of a local model in processes of their own, one thread each.

On a CPU, small models spend their time in operations too short to be divided among threads; whole copies
keep every core busy instead. Requests about one problem stay with one copy, so that its prefix cache
serves them all. With `deterministic=True` a completion is the same whichever copy makes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import itertools
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from genprm.aio import cancel_all
from genprm.engines._common.affinity import Affinity, conversation
from genprm.engines._local.wire import (
    Packed,
    pack_completion,
    pack_request,
    unpack_completion,
    unpack_request,
)
from genprm.engines.base import Completion, Request
from genprm.engines.local import LocalEngine
from genprm.errors import ConfigError, EngineError, EngineUnavailable, GenPRMError

Job = tuple[int, list[Packed] | None]
Answer = tuple[int, list[Packed] | EngineError | dict[str, Any]]

# A conversation stays with its copy unless that one has so many requests more than another.
_SLACK = 16
_ENDS_WITHIN = 10.0


class ReplicatedEngine:
    """`replicas` copies of `LocalEngine(**options)`.

    Args:
        replicas: how many processes; memory grows with it.
        options: of `LocalEngine`; `threads` is 1 unless given.

    The processes start with the first call and end with `aclose`, or with this process.
    """

    def __init__(self, model: str, *, replicas: int = 2, **options: Any) -> None:
        if replicas < 1:
            raise ConfigError(f"replicas must be at least 1, not {replicas}")
        unknown = options.keys() - inspect.signature(LocalEngine).parameters.keys()
        if unknown:
            raise ConfigError(
                f"unknown options of the replicated engine: {', '.join(sorted(unknown))}",
                hint="It takes replicas and the options of the local engine.",
            )
        self._options = {"model": model, "threads": 1, **options}
        self._count = replicas
        self._copies: list[_Copy] = []
        self._facts: dict[str, Any] = {}
        self._affinity = Affinity(_SLACK)

    @property
    def name(self) -> str:
        """The copies' name."""
        return str(self._facts.get("name") or self._options.get("name") or self._options["model"])

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine`."""
        copies = await self._started()
        chosen: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            loads = {number: copy.load for number, copy in enumerate(copies)}
            copy = self._affinity.choose(conversation(request), loads)
            copies[copy].load += 1
            chosen.setdefault(copy, []).append(index)
        if len(chosen) == 1:
            return await copies[next(iter(chosen))].ask(list(requests))
        answers = await asyncio.gather(
            *(copies[copy].ask([requests[index] for index in indices]) for copy, indices in chosen.items())
        )
        done = [Completion()] * len(requests)
        for indices, completions in zip(chosen.values(), answers, strict=True):
            for index, completion in zip(indices, completions, strict=True):
                done[index] = completion
        return done

    async def check(self) -> None:
        """See `Engine`."""
        copies = await self._started()
        facts = await asyncio.gather(*(copy.check() for copy in copies))
        self._facts = facts[0]

    def describe(self) -> dict[str, Any]:
        """See `Engine`; what a copy says of itself, once `check` has asked."""
        return {**self._facts, "replicas": self._count}

    async def aclose(self) -> None:
        """See `Engine`."""
        copies, self._copies = self._copies, []
        for copy in copies:
            copy.tell_to_end()
        for copy in copies:
            await asyncio.to_thread(copy.close)

    async def _started(self) -> list[_Copy]:
        if not self._copies:
            self._copies = [_Copy(self._options) for _ in range(self._count)]
        return self._copies


class _Outbox:
    """Collects what is sent within one turn of an event loop, and sends it as one message."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[Any] = []

    def add(self, entry: Any) -> None:
        """Send an entry soon."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(entry)

    def _flush(self) -> None:
        entries, self._waiting = self._waiting, []
        # A process that is gone is noticed by whoever reads from it.
        with contextlib.suppress(OSError):
            self._connection.send(entries)


def _read_into(
    connection: Connection, loop: asyncio.AbstractEventLoop, take: Callable[[Any], None]
) -> None:
    """Body of a thread: hand every message to the loop, and None at the end."""
    message: Any = ()
    while message is not None:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            message = None
        try:
            loop.call_soon_threadsafe(take, message)
        except RuntimeError:
            return  # the loop was closed, nobody waits any more


class _Copy:
    """One process and the answers that are awaited from it."""

    def __init__(self, options: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, options), daemon=True)
        self._process.start()
        theirs.close()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._lost = False
        self.load = 0  # requests chosen for this copy and not answered yet
        self._outbox = _Outbox(self._connection)
        arguments = (self._connection, asyncio.get_running_loop(), self._take)
        threading.Thread(target=_read_into, args=arguments, daemon=True).start()

    async def ask(self, requests: list[Request]) -> list[Completion]:
        """Completions, or as many failures where the process is gone."""
        try:
            answer = await self._call([pack_request(request) for request in requests])
        finally:
            self.load -= len(requests)
        if isinstance(answer, EngineError):
            return [Completion(finish_reason="error", error=answer) for _ in requests]
        return [unpack_completion(completion) for completion in answer]

    async def check(self) -> dict[str, Any]:
        """The copy's description; raises its error where it cannot serve."""
        answer = await self._call(None)
        if isinstance(answer, EngineError):
            raise answer
        facts: dict[str, Any] = answer
        return facts

    def tell_to_end(self) -> None:
        """Let the process end by itself; to be called on the event loop, before `close`."""
        with contextlib.suppress(OSError):
            self._connection.send(None)

    def close(self) -> None:
        """Wait until the process has ended, and end it where that takes too long."""
        self._process.join(_ENDS_WITHIN)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self._connection.close()

    async def _call(self, requests: list[Packed] | None) -> Any:
        if self._lost:
            return _gone()
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._outbox.add((number, requests))
        return await future

    def _take(self, answers: list[Answer] | None) -> None:
        """Settle what was awaited; None means that the process ended."""
        if answers is None:
            self._lost = True
            answers = [(number, _gone()) for number in self._waiting]
        for number, answer in answers:
            future = self._waiting.pop(number, None)
            if future is not None and not future.done():
                future.set_result(answer)


def _gone() -> EngineUnavailable:
    return EngineUnavailable("a model process ended", hint="Run the command again.")


def _serve(connection: Connection, options: dict[str, Any]) -> None:
    """Body of a copy's process."""
    asyncio.run(_answer_all(connection, options))


async def _answer_all(connection: Connection, options: dict[str, Any]) -> None:
    engine: LocalEngine | None = None
    broken = EngineError("the model process could not start")
    try:
        engine = LocalEngine(**options)
    except GenPRMError as error:
        broken = EngineError(error.message, hint=error.hint)
    gc.freeze()  # the model's objects stay; the collector need not look at them again
    outbox = _Outbox(connection)
    tasks: set[asyncio.Task[None]] = set()
    ended = asyncio.Event()

    async def answer(number: int, requests: list[Packed] | None) -> None:
        try:
            if engine is None:
                raise broken
            if requests is None:
                await engine.check()
                outbox.add((number, {**engine.describe(), "name": engine.name}))
            else:
                done = await engine.generate([unpack_request(request) for request in requests])
                outbox.add((number, [pack_completion(completion) for completion in done]))
        except EngineError as error:
            outbox.add((number, error.with_traceback(None)))

    def take(jobs: list[Job] | None) -> None:
        if jobs is None:
            ended.set()
            return
        for number, requests in jobs:
            task = asyncio.ensure_future(answer(number, requests))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    arguments = (connection, asyncio.get_running_loop(), take)
    threading.Thread(target=_read_into, args=arguments, daemon=True).start()
    await ended.wait()
    await cancel_all(list(tasks))
    if engine is not None:
        await engine.aclose()
