"""`IsolatedSandbox`: the host's side of the isolated sandbox, for asyncio.

What it does not stop: a flaw in the kernel; channels through timing and caches; a snippet that prints
lies, or reports a false outcome for itself; use of the processor up to the limits given. The levels and
how they are found out are in docs/explanation/sandbox.md.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from genprm.errors import ConfigError, SandboxDied, SandboxUnavailable
from genprm.sandbox.base import ExecResult, IsolationReport, Limits, Status
from genprm.sandbox.box.frames import MAX_CODE
from genprm.sandbox.box.tiers import TIERS
from genprm.sandbox.canaries import examine
from genprm.sandbox.worker import ROOT, BoxFailed, SnapshotLost, Worker

_MODES = ("namespaces", "landlock", "rlimits")


@dataclass(frozen=True, slots=True)
class _Step:
    """One snippet that advanced a session; a chain of them is the prefix to replay."""

    before: _Step | None
    code: str
    limits: Limits


class _Snapshot:
    """A snapshot in a box, kept alive as long as a session stands on it."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker = worker
        self.number = number
        self._holders = 1

    def hold(self) -> _Snapshot:
        self._holders += 1
        return self

    def release(self) -> None:
        self._holders -= 1
        if not self._holders:
            self.worker.drop(self.number)


class IsolatedSession:
    """An interpreter state in a box. Made by `IsolatedSandbox.open` and by `fork`."""

    def __init__(
        self, sandbox: IsolatedSandbox, seed: int, steps: _Step | None = None, at: _Snapshot | None = None
    ) -> None:
        self._sandbox = sandbox
        self._seed = seed
        self._steps = steps
        self._at = at
        self._lock = asyncio.Lock()
        self._closed = False
        self._task: asyncio.Task[ExecResult] | None = None

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        """Execute code in this state and advance it.

        The state advances where the code ended by itself (`ok`, `error`); every other ending leaves
        the session as it was before. Runs of one session follow each other; runs of different
        sessions overlap.

        Args:
            code: Python text.
            limits: tighter bounds for this run; bounds above the sandbox's own are cut to them,
                time limits apart.

        Raises:
            SandboxDied: the box was lost, and again while the session was rebuilt in a new one.
        """
        async with self._lock:
            if self._closed:
                raise SandboxDied("the session is closed", hint="open a new one", retryable=False)
            self._task = asyncio.ensure_future(self._run(code, limits or self._sandbox.limits))
            try:
                return await asyncio.shield(self._task)
            except asyncio.CancelledError:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
                if self._closed:
                    raise SandboxDied("the session was closed while code ran", retryable=False) from None
                raise
            finally:
                self._task = None

    async def _run(self, code: str, limits: Limits) -> ExecResult:
        if len(code) * 4 > MAX_CODE and len(code.encode("utf-8", "surrogatepass")) > MAX_CODE:
            return ExecResult(Status.ERROR, error_type="ValueError", error_message="the code is too long")
        async with self._sandbox.slot():
            try:
                return await self._advance(code, limits)
            except SnapshotLost:
                self._let_go()
            try:
                await self._replay()
                return await self._advance(code, limits)
            except SnapshotLost as lost:
                self._let_go()
                raise SandboxDied(
                    f"the session was lost and could not be rebuilt: {lost}",
                    hint="run the snippets again in a new session; if that fails, check the memory left",
                ) from lost

    async def _advance(self, code: str, limits: Limits) -> ExecResult:
        worker = self._at.worker if self._at else await self._sandbox.pick()
        parent = self._at.number if self._at else ROOT
        number, result = await worker.execute(parent, code, limits, self._seed)
        if number is not None:
            self._let_go()
            self._at = _Snapshot(worker, number)
            self._steps = _Step(self._steps, code, limits)
        return result

    async def _replay(self) -> None:
        """Rebuild the state by running the prefix again, from the start, in a healthy box."""
        chain: list[_Step] = []
        step = self._steps
        while step is not None:
            chain.append(step)
            step = step.before
        self._steps = None
        for step in reversed(chain):
            result = await self._advance(step.code, step.limits)
            if result.status not in (Status.OK, Status.ERROR):
                raise SnapshotLost(f"its prefix ended with '{result.status}' when it was replayed")

    def _let_go(self) -> None:
        if self._at is not None:
            self._at.release()
            self._at = None

    def fork(self) -> IsolatedSession:
        """A new session that starts from this one's current state and shares nothing from here on."""
        if self._closed:
            raise SandboxDied("the session is closed", hint="fork before closing", retryable=False)
        return IsolatedSession(
            self._sandbox, self._seed, self._steps, self._at.hold() if self._at else None
        )

    async def aclose(self) -> None:
        """Kill everything the session has, also what it is running. Idempotent."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._let_go()

    async def __aenter__(self) -> IsolatedSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class IsolatedSandbox:
    """Runs untrusted Python in forks of warmed interpreters, isolated as far as the kernel allows.

    Args:
        tier: `plain`, `sympy`, `numpy` (sympy and numpy) or `scipy` (all three).
        workers: boxes, each with a warmed interpreter; None for one per usable core.
        limits: bounds of every execution; a single run can only tighten those on resources.
        min_level: the lowest isolation level that will do (see docs/explanation/sandbox.md).
        allow_unsandboxed: accept level 0. The code then runs with this user's rights.
        max_running: executions alive at once, over all sessions; None for one per worker. More wait.
        memory_mb: memory of one box with all its sessions; the largest is killed where they have more.
            None for half of the machine's memory, shared by the boxes.
        seed: the random seed of every session; None gives each session its own.
        mode: the one way of isolating that is tried (`namespaces`, `landlock` or `rlimits`); None tries
            them in this order, the last one only where level 0 is allowed.

    Use it as an async context manager, or call `start` and `aclose`. Not for use from several event loops.
    """

    def __init__(
        self,
        tier: str = "sympy",
        *,
        workers: int | None = None,
        limits: Limits | None = None,
        min_level: int = 1,
        allow_unsandboxed: bool = False,
        max_running: int | None = None,
        memory_mb: int | None = None,
        seed: int | None = None,
        mode: str | None = None,
    ) -> None:
        if tier not in TIERS:
            raise ConfigError(f"unknown sandbox tier '{tier}'", hint=f"one of: {', '.join(TIERS)}")
        self.tier = tier
        self.limits = limits or Limits()
        self._count = workers or len(os.sched_getaffinity(0))
        self._min_level = 0 if allow_unsandboxed else max(1, min_level)
        self._slots = asyncio.Semaphore(max_running or self._count)
        self._memory_mb = memory_mb
        self._fixed_seed = seed
        self._workers: list[Worker] = []
        if mode not in (None, *_MODES):
            raise ConfigError(f"unknown sandbox mode '{mode}'", hint=f"one of: {', '.join(_MODES)}")
        self._modes = (mode,) if mode else _MODES[: 3 if self._min_level == 0 else 2]
        self._mode = self._modes[0]
        self._report: IsolationReport | None = None
        self._starting: asyncio.Task[None] | None = None
        self._mending = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Make the boxes and find out what they hold.

        They are made once, however many callers ask at the same time and whoever of them is cancelled; what
        kept them from being made is raised to every caller.

        Raises:
            SandboxUnavailable: with the reasons.
            SandboxDied: the sandbox is closed.
        """
        if self._closed:
            raise SandboxDied("the sandbox is closed", hint="make a new one", retryable=False)
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        reasons: list[str] = []
        for mode in self._modes:
            try:
                first = await self._make(mode)
            except BoxFailed as failure:
                reasons.append(f"{mode}: {failure.message}")
                continue
            report = await examine(first, tuple(reasons))
            if report.level >= self._min_level:
                self._mode, self._report = mode, report
                self._workers = [first]
                break
            await first.aclose()
            reasons += [reason for reason in report.reasons if reason not in reasons]
        if self._report is None:
            raise SandboxUnavailable(
                f"isolation level {self._min_level} cannot be reached here: " + "; ".join(reasons),
                hint="docs/explanation/sandbox.md says what each level needs; "
                "allow_unsandboxed=True runs the code without isolation",
            )
        others = (self._make(self._mode) for _ in range(self._count - 1))
        made = await asyncio.gather(*others, return_exceptions=True)
        self._workers += [worker for worker in made if isinstance(worker, Worker)]
        lost = next((entry for entry in made if isinstance(entry, BaseException)), None)
        if lost is not None:
            await self._close_workers()
            raise lost

    async def _make(self, mode: str) -> Worker:
        memory = self._memory_mb or _physical_mb() // 2 // self._count
        processes = 4096
        return await Worker.start(
            tier=self.tier,
            mode=mode,
            limits=self.limits,
            memory_mb=max(memory, self.limits.memory_mb),
            processes=processes,
        )

    @property
    def report(self) -> IsolationReport:
        """The isolation reached; known once the sandbox has started."""
        if self._report is None:
            raise SandboxUnavailable("the sandbox has not been started", hint="use it in 'async with'")
        return self._report

    async def open(self) -> IsolatedSession:
        """A session with an empty namespace. Costs nothing until it runs something."""
        await self.start()
        if self._closed:
            raise SandboxDied("the sandbox is closed", hint="make a new one", retryable=False)
        return IsolatedSession(self, secrets.randbits(63) if self._fixed_seed is None else self._fixed_seed)

    def slot(self) -> asyncio.Semaphore:
        """The right to have an execution alive, as an async context manager."""
        return self._slots

    async def pick(self) -> Worker:
        """A healthy box for a new session: the next in turn; dead ones are replaced first."""
        if self._closed:
            raise SandboxDied("the sandbox is closed", hint="make a new one", retryable=False)
        if any(not worker.alive for worker in self._workers):
            await self._mend()
        worker = min(self._workers, key=lambda one: one.load)
        worker.load += 1
        return worker

    async def _mend(self) -> None:
        async with self._mending:
            if self._closed:
                raise SandboxDied("the sandbox is closed", hint="make a new one", retryable=False)
            for index, worker in enumerate(self._workers):
                if not worker.alive:
                    await worker.aclose()
                    try:
                        self._workers[index] = await self._make(self._mode)
                    except BoxFailed as failure:
                        raise SandboxDied(
                            f"a lost box could not be made again: {failure.message}"
                        ) from failure

    async def aclose(self) -> None:
        """Close every session and leave nothing behind. Idempotent."""
        self._closed = True
        if self._starting is not None:
            await asyncio.wait([self._starting])
            if not self._starting.cancelled():
                self._starting.exception()  # looked at: every caller of `start` may have been cancelled
        await self._close_workers()

    async def _close_workers(self) -> None:
        workers, self._workers = self._workers, []
        await asyncio.gather(*(worker.aclose() for worker in workers))

    async def __aenter__(self) -> IsolatedSandbox:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _physical_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def open_sandbox(tier: str = "sympy", **options: Any) -> IsolatedSandbox:
    """A sandbox from the names and values of a config; the arguments are those of `IsolatedSandbox`."""
    limits = options.pop("limits", None)
    if isinstance(limits, dict):
        try:
            limits = Limits(**limits)
        except TypeError as error:
            raise ConfigError(f"sandbox limits: {error}", hint="see genprm.sandbox.Limits") from error
    try:
        return IsolatedSandbox(tier, limits=limits, **options)
    except TypeError as error:
        raise ConfigError(f"sandbox: {error}", hint="see genprm.sandbox.IsolatedSandbox") from error


async def probe(tier: str = "plain") -> IsolationReport:
    """The isolation that this machine gives, whatever the level, for `genprm doctor`."""
    async with IsolatedSandbox(tier, workers=1, allow_unsandboxed=True) as sandbox:
        return sandbox.report
