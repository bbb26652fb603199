"""`IsolatedSandbox`: the host's side of the isolated sandbox, for asyncio.

What it does not stop: a flaw in the kernel; channels through timing and caches; a snippet that prints
lies, or reports a false outcome for itself; use of the processor up to the limits given. The levels and
how they are found out are in docs/explanation/sandbox.md.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from typing import Any

from genprm.errors import ConfigError, SandboxDied, SandboxUnavailable
from genprm.sandbox.base import IsolationReport, Limits, positive
from genprm.sandbox.box.tiers import TIERS
from genprm.sandbox.canaries import examine
from genprm.sandbox.session import IsolatedSession
from genprm.sandbox.worker import BoxFailed, Worker

_MODES = ("namespaces", "landlock", "rlimits")
_PROCESSES = 4096  # processes and threads in one box
_REMEDIES = (
    "'genprm doctor' shows what is missing; a container must allow new namespaces "
    "(docs/howto/sandbox-in-a-container.md), WSL must be version 2; "
    "verify.components=cot executes nothing; allow_unsandboxed=True runs the code without isolation"
)
_REMEDIES_ELSEWHERE = (
    "run genprm in a Linux container, on Windows also under WSL 2 (docs/howto/install.md); "
    "or set verify.components=cot, which executes nothing"
)


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

    Use it as an async context manager, or call `start` and `aclose`. Everything but `aclose` belongs to the
    event loop in which it was started.

    Raises:
        ConfigError: an unknown tier or mode, or a number that is not positive.
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
        for name, value in (("workers", workers), ("max_running", max_running), ("memory_mb", memory_mb)):
            if value is not None:
                positive(f"sandbox {name}", value)
        self.tier = tier
        self.limits = limits or Limits()
        self._count = workers or _usable_cores()
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._mending = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Make the boxes and find out what they hold.

        They are made once, however many callers ask at the same time and whoever of them is cancelled; what
        kept them from being made is raised to every caller.

        Raises:
            SandboxUnavailable: with the reasons; not Linux; or the sandbox is in use in another event loop.
            SandboxDied: the sandbox is closed.
        """
        self._check_open()
        if sys.platform != "linux":
            raise SandboxUnavailable(
                f"the sandbox is made of Linux features; this system is '{sys.platform}'",
                hint=_REMEDIES_ELSEWHERE,
            )
        if self._starting is None:
            self._loop = asyncio.get_running_loop()
            self._starting = asyncio.ensure_future(self._start())
        self.check_loop()
        try:
            await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                self._check_open()  # nobody cancelled this caller: the sandbox was closed while it started
            raise

    def check_loop(self) -> None:
        """Raise `SandboxUnavailable` in any event loop but the one in which the boxes were made."""
        if self._loop is not asyncio.get_running_loop():
            raise SandboxUnavailable(
                "this sandbox was started in another event loop",
                hint="make one sandbox per event loop: 'async with IsolatedSandbox(...)' inside asyncio.run",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxDied("the sandbox is closed", hint="make a new one", retryable=False)

    async def _start(self) -> None:
        try:
            self._report = await self._first_box()
            made = await asyncio.gather(
                *(self._add_box(self._mode) for _ in range(self._count - 1)), return_exceptions=True
            )
            for entry in made:
                if isinstance(entry, BaseException):
                    raise entry
        except BaseException:
            await self._close_workers()
            raise

    async def _first_box(self) -> IsolationReport:
        """A box of the first mode that reaches the level asked for; all others are closed again."""
        reasons: list[str] = []
        for mode in self._modes:
            try:
                worker = await self._add_box(mode)
            except BoxFailed as failure:
                reasons.append(f"{mode}: {failure.message}")
                continue
            report = await examine(worker, tuple(reasons))
            if report.level >= self._min_level:
                self._mode = mode
                return report
            await self._close_workers()
            reasons += [reason for reason in report.reasons if reason not in reasons]
        raise SandboxUnavailable(
            f"isolation level {self._min_level} cannot be reached here: " + "; ".join(reasons),
            hint=_REMEDIES,
        )

    async def _add_box(self, mode: str) -> Worker:
        worker = await self._make(mode)
        self._workers.append(worker)
        return worker

    async def _make(self, mode: str) -> Worker:
        memory = self._memory_mb or _physical_mb() // 2 // self._count
        return await Worker.start(
            tier=self.tier,
            mode=mode,
            limits=self.limits,
            memory_mb=max(memory, self.limits.memory_mb),
            processes=_PROCESSES,
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
        self._check_open()
        return IsolatedSession(self, secrets.randbits(63) if self._fixed_seed is None else self._fixed_seed)

    def slot(self) -> asyncio.Semaphore:
        """The right to have an execution alive, as an async context manager."""
        return self._slots

    async def pick(self) -> Worker:
        """A healthy box for a new session: the next in turn; dead ones are replaced first."""
        self._check_open()
        if any(not worker.alive for worker in self._workers):
            await self._mend()
        worker = min(self._workers, key=lambda one: one.load)
        worker.load += 1
        return worker

    async def _mend(self) -> None:
        async with self._mending:
            self._check_open()
            for index, worker in enumerate(self._workers):
                if not worker.alive:
                    await worker.aclose()
                    try:
                        made = await self._make(self._mode)
                    except BoxFailed as failure:
                        raise SandboxDied(
                            f"a lost box could not be made again: {failure.message}", hint=failure.hint
                        ) from failure
                    if self._closed:
                        await made.aclose()
                        self._check_open()
                    self._workers[index] = made

    async def aclose(self) -> None:
        """Close every session and leave nothing behind, from any event loop. Idempotent."""
        self._closed = True
        if self._starting is not None and self._loop is asyncio.get_running_loop():
            self._starting.cancel()
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


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    """The isolation that this machine gives, whatever the level, for `genprm doctor`.

    Raises:
        SandboxUnavailable: no box can be made at all; the reasons, or that this is not Linux.
    """
    async with IsolatedSandbox(tier, workers=1, allow_unsandboxed=True) as sandbox:
        return sandbox.report
