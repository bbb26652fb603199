"""One running verification and those who wait for it."""

from __future__ import annotations

import asyncio

from genprm.records import StepVerdict, Verification, VerifyItem
from genprm.serve.answers import Answer, until_now
from genprm.serve.callers import CALLER


class Job:
    """A verification in the queue or in work. All on one event loop.

    Attributes:
        verdicts: those that stand, in step order.
        waiters: callers that wait for it now.
        kept_until: loop time until which it continues even if nobody waits.
        policy: the load policy that chose its reward.
        caller: who began it.
        begun: loop time.
    """

    def __init__(self, item: VerifyItem) -> None:
        self.item = item
        self.verdicts: list[StepVerdict] = []
        self.waiters = 0
        self.kept_until = 0.0
        self.policy: str | None = None
        self.caller = CALLER.get()
        self.begun = asyncio.get_running_loop().time()
        self.task: asyncio.Task[Answer]
        self.leaving: asyncio.TimerHandle | None = None
        self._changed = asyncio.get_running_loop().create_future()

    def until_now(self, verifier: str) -> Verification:
        """What is known so far."""
        seconds = asyncio.get_running_loop().time() - self.begun
        return until_now(self.item, self.verdicts, verifier, seconds)

    def step(self, _: str, verdict: StepVerdict) -> None:
        """A verdict stands."""
        self.verdicts.append(verdict)
        self.notify()

    def notify(self) -> None:
        """Wake everyone who waits for a change."""
        old, self._changed = self._changed, asyncio.get_running_loop().create_future()
        old.set_result(None)

    async def change(self, seconds: float | None) -> None:
        """Wait for the next verdict or the end, or until so many seconds have passed."""
        await asyncio.wait({self._changed}, timeout=seconds)

    def enter(self) -> None:
        """One caller more; nothing is abandoned while it waits."""
        self.waiters += 1
        if self.leaving is not None:
            self.leaving.cancel()
            self.leaving = None
