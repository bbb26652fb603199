"""`IsolatedSession`: one interpreter state, wherever the process is that holds it.

A session knows the snippets that made its state and how each of them ended. A state whose process is lost,
or cannot be forked once more, is made again from them; a state that does not come out alike is a fault.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from genprm.errors import SandboxDied
from genprm.sandbox.base import ExecResult, Limits, Status
from genprm.sandbox.box.frames import MAX_CODE
from genprm.sandbox.worker import ROOT, SnapshotLost, Unresponsive, Worker

if TYPE_CHECKING:
    from genprm.sandbox.isolated import IsolatedSandbox

_REBUILD = "run the snippets again in a new session; if that fails, check the memory left"


@dataclass(frozen=True, slots=True)
class _Step:
    """One snippet that advanced a session, and how it ended; a chain of them is the prefix to replay."""

    before: _Step | None
    code: str
    limits: Limits
    ended: tuple[Status, str | None]


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
            self.worker.drop_soon(self.number)


def _ended(result: ExecResult) -> tuple[Status, str | None]:
    return result.status, result.error_type


class IsolatedSession:
    """An interpreter state in a box. Made by `IsolatedSandbox.open` and by `fork`."""

    def __init__(
        self, sandbox: IsolatedSandbox, seed: int, steps: _Step | None = None, at: _Snapshot | None = None
    ) -> None:
        self._sandbox = sandbox
        self._seed = seed
        # What made the state, and the process that holds it; None if it is to be made again, or empty.
        self._steps = steps
        self._at = at
        self._lock = asyncio.Lock()
        self._closed = False
        self._task: asyncio.Task[tuple[_Snapshot | None, ExecResult]] | None = None

    async def run(self, code: str, limits: Limits | None = None) -> ExecResult:
        """Execute code in this state and advance it.

        The state advances if the code ended by itself (`ok`, `error`); every other ending, an error that is
        raised, and a cancellation leave the session as it was before. Runs of one session follow each other;
        runs of different sessions overlap.

        Args:
            code: Python text.
            limits: tighter bounds for this run alone; bounds above the sandbox's own are cut to them,
                time limits apart.

        Raises:
            SandboxDied: the state was lost, and could not be made again.
            SandboxError: the box has no room for this run, or the session is another event loop's.
        """
        self._sandbox.check_loop()
        async with self._lock:
            if self._closed:
                raise SandboxDied("the session is closed", hint="open a new one", retryable=False)
            bounds = limits or self._sandbox.limits
            self._task = asyncio.ensure_future(self._run(code, bounds))
            try:
                at, result = await asyncio.shield(self._task)
            except asyncio.CancelledError:
                await self._abandon(self._task)
                if self._closed:
                    raise SandboxDied("the session was closed while code ran", retryable=False) from None
                raise
            finally:
                self._task = None
            if at is not None and self._closed:
                at.release()
            elif at is not None:
                self._let_go()
                self._at = at
                self._steps = _Step(self._steps, code, bounds, _ended(result))
            return result

    async def _abandon(self, task: asyncio.Task[tuple[_Snapshot | None, ExecResult]]) -> None:
        """End a run whose caller has gone, also if it came to its end at the same moment."""
        task.cancel()
        (done,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(done, BaseException) and done[0] is not None:
            done[0].release()

    async def _run(self, code: str, limits: Limits) -> tuple[_Snapshot | None, ExecResult]:
        """Execute code on this state; returns the state behind it, if there is one, and the result."""
        if len(code) * 4 > MAX_CODE and len(code.encode("utf-8", "surrogatepass")) > MAX_CODE:
            return None, ExecResult(
                Status.ERROR, error_type="ValueError", error_message="the code is too long"
            )
        async with self._sandbox.slot():
            try:
                if self._at is not None or self._steps is None:
                    try:
                        return await self._execute(self._at, code, limits)
                    except Unresponsive:
                        raise  # it took the time of the run; replaying would take it again
                    except SnapshotLost:
                        self._let_go()
                await self._rebuild()
                return await self._execute(self._at, code, limits)
            except SnapshotLost as lost:
                self._let_go()
                raise SandboxDied(
                    f"the session was lost and could not be rebuilt: {lost}", hint=_REBUILD
                ) from lost

    async def _execute(
        self, at: _Snapshot | None, code: str, limits: Limits
    ) -> tuple[_Snapshot | None, ExecResult]:
        worker = at.worker if at else await self._sandbox.pick()
        number, result = await worker.execute(at.number if at else ROOT, code, limits, self._seed)
        return (None if number is None else _Snapshot(worker, number)), result

    async def _rebuild(self) -> None:
        """Make the state again by running the prefix from the start, in a healthy box."""
        chain: list[_Step] = []
        step = self._steps
        while step is not None:
            chain.append(step)
            step = step.before
        at: _Snapshot | None = None
        try:
            for step in reversed(chain):
                behind, result = await self._execute(at, step.code, step.limits)
                if at is not None:
                    at.release()
                at = behind
                if _ended(result) != step.ended:
                    before, now = step.ended[0], result.status
                    raise SnapshotLost(
                        f"a snippet that ended with '{before}' ended with '{now}' when replayed"
                    )
        except BaseException:
            if at is not None:
                at.release()
            raise
        self._at = at

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
