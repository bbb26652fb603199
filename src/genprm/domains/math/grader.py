"""Decide whether two answers are equal, by algebra that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from types import TracebackType

from genprm.domains.base import Graded
from genprm.domains.math.equality import Expressions, Members, comparison
from genprm.errors import GraderError

_START_SECONDS = 120.0
# Wall time at most, as a multiple of the CPU time: a busy machine must not change verdicts.
_WALL_FACTOR = 8
_GRACE_SECONDS = 0.5
_TIME_SIGNALS = (-signal.SIGPROF, -signal.SIGALRM)
_LINE_BYTES = 1 << 20


class Grader:
    """Compares answers: `async with Grader() as grader: graded = await grader.equal("1/2", "0.5")`.

    Plain numbers and equal texts are decided in place; anything else goes to math-verify in a worker
    process. A worker that exceeds its time is killed and replaced, and the verdict is None with reason
    `timeout`. Workers start when first needed (about a second each) and end with this object, or soon
    after this process is gone. Verdicts are cached.

    Args:
        workers: processes at most; by default the number of cores, at most 4.
        seconds: CPU time for one comparison; wall time is bounded by eight times as much.
        memory_mb: address space of one worker.
        max_chars: answers longer than this are not compared (reason `too_long`).
        cache_size: verdicts kept.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        seconds: float = 5.0,
        memory_mb: int = 2048,
        max_chars: int = 2000,
        cache_size: int = 100_000,
    ) -> None:
        self._count = workers or min(4, os.cpu_count() or 1)
        self._seconds = seconds
        self._memory_mb = memory_mb
        self._max_chars = max_chars
        self._cache_size = cache_size
        self._cache: OrderedDict[Expressions, Graded] = OrderedDict()
        self._running: dict[Expressions, asyncio.Task[Graded]] = {}
        self._slots = asyncio.Semaphore(self._count)
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    async def __aenter__(self) -> Grader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def equal(self, pred: str | None, gold: str | None) -> Graded:
        """Whether the answer `pred` equals the reference `gold`.

        No answer is not equal to any reference (False, `no_answer`); without a reference nothing is known (None,
        `no_reference`). Lists, sets, tuples, intervals and unions are compared member by member, words as texts: no
        comparison decides on a part of an answer. A reference of whole phrases, such as a solution, equals its own words;
        whether others say the same is unknown (None, `prose_reference`).

        Raises:
            GraderError: workers cannot be started.
        """
        what = comparison(pred, gold, self._max_chars)
        if isinstance(what, Members):
            return await (self._in_order(what) if what.ordered else self._in_any_order(what))
        return what if isinstance(what, Graded) else await self._by_worker(what)

    async def equal_many(self, pairs: Iterable[tuple[str | None, str | None]]) -> list[Graded]:
        """Verdicts on (pred, gold) pairs, in order; equal pairs are compared once."""
        pairs = list(pairs)
        distinct = list(dict.fromkeys(pairs))
        verdicts = dict(
            zip(distinct, await asyncio.gather(*(self.equal(*pair) for pair in distinct)), strict=True)
        )
        return [verdicts[pair] for pair in pairs]

    async def _in_order(self, what: Members) -> Graded:
        verdicts = await self.equal_many(list(zip(what.preds, what.golds, strict=True)))
        return _all_of(verdicts)

    async def _in_any_order(self, what: Members) -> Graded:
        """Each reference member takes one answer member that equals it."""
        left = list(what.preds)
        verdicts = []
        for gold in what.golds:
            left.sort(key=lambda pred, gold=gold: pred != gold)  # type: ignore[misc]
            unknown = None
            for index, pred in enumerate(left):
                found = await self.equal(pred, gold)
                if found.equal:
                    del left[index]
                    break
                if found.equal is None:
                    unknown = found
            else:
                if unknown is None:
                    return Graded(False, "different_member")
                verdicts.append(unknown)
        return _all_of(verdicts)

    async def aclose(self) -> None:
        """End the workers. Idempotent."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in list(self._all):
            await worker.kill()
        self._all.clear()
        self._idle.clear()

    async def _by_worker(self, pair: Expressions) -> Graded:
        """The cached verdict, the one being made, or a new one."""
        if pair in self._cache:
            self._cache.move_to_end(pair)
            return self._cache[pair]
        task = self._running.get(pair)
        if task is None:
            task = asyncio.ensure_future(self._compare(pair))
            self._running[pair] = task
            task.add_done_callback(lambda _: self._running.pop(pair, None))
        # A caller that is cancelled must not take the verdict from the others that wait for it.
        return await asyncio.shield(task)

    async def _compare(self, pair: Expressions) -> Graded:
        async with self._slots:
            worker = self._idle.pop() if self._idle else await self._start()
            try:
                graded = await worker.ask(pair.pred, pair.gold, self._seconds)
            except BaseException:
                await self._discard(worker)
                raise
            if worker.alive:
                self._idle.append(worker)
            else:
                await self._discard(worker)
        self._cache[pair] = graded
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return graded

    async def _start(self) -> _Worker:
        worker = await _Worker.start(self._seconds, self._memory_mb)
        self._all.add(worker)
        return worker

    async def _discard(self, worker: _Worker) -> None:
        self._all.discard(worker)
        await worker.kill()


def _all_of(verdicts: Sequence[Graded]) -> Graded:
    """True if all are; False with the reason of the first that is; else the first unknown."""
    for wanted in (False, None):
        for verdict in verdicts:
            if verdict.equal is wanted:
                return verdict
    return Graded(True)


class _Worker:
    """One worker process, asked one question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False
        self.alive = True

    @classmethod
    async def start(cls, seconds: float, memory_mb: int) -> _Worker:
        """Start a worker and wait until it has loaded math-verify."""
        limits = [str(seconds), str(_WALL_FACTOR * seconds), str(memory_mb)]
        arguments = [sys.executable, "-m", "genprm.domains.math.worker", *limits]
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_LINE_BYTES,
            )
        except OSError as error:
            raise GraderError(f"an answer checker cannot be started: {error}") from error
        worker = cls(process)
        try:
            line = await asyncio.wait_for(worker._read(), _START_SECONDS)
        except BaseException as error:
            await worker.kill()
            if isinstance(error, TimeoutError):
                raise GraderError(f"an answer checker did not start in {_START_SECONDS:g} s") from error
            raise
        hello = json.loads(line) if line else {}
        if not hello.get("ready"):
            await worker.kill()
            missing = hello.get("missing")
            raise GraderError(
                f"an answer checker did not start (exit status {process.returncode})"
                + (f": the Python package '{missing}' is missing" if missing else ""),
                hint="pip install 'math-verify[antlr4_13_2]'" if missing else "run `genprm doctor`",
            )
        return worker

    async def ask(self, pred: str, gold: str, seconds: float) -> Graded:
        """A verdict; the worker is dead afterwards if it gave none."""
        line = b""
        # The worker ends itself in time; this bound is for one that is stopped or not scheduled at all.
        with contextlib.suppress(TimeoutError, ConnectionError):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"pred": pred, "gold": gold}).encode() + b"\n")
            line = await asyncio.wait_for(self._read(), _WALL_FACTOR * seconds + 1)
        if line.endswith(b"\n"):
            verdict = json.loads(line)
            return Graded(verdict["equal"], verdict["reason"])
        await self.kill(_GRACE_SECONDS)
        timed_out = self._process.returncode in _TIME_SIGNALS or self._killed
        return Graded(None, "timeout" if timed_out else "worker_died")

    async def kill(self, grace: float = 0.0) -> None:
        """End the process, unless it ends by itself within `grace` seconds. Idempotent."""
        self.alive = False
        if grace and self._process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
        if self._process.returncode is None:
            self._killed = True
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()
