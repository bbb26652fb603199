"""A reward as a service: a bounded queue, deadlines, and equal requests that share one verification. No HTTP here."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from genprm.aio import cancel_all
from genprm.errors import ConfigError, Overloaded
from genprm.identity import content_key
from genprm.records import StepVerdict, Usage, VerifyItem
from genprm.rewards.base import RewardFacts, StepReward
from genprm.serve.answers import Answer, until_now
from genprm.serve.callers import CALLER, Caller
from genprm.serve.job import Job
from genprm.serve.tracing import span

_FIRST_GUESS_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class BusyPolicy:
    """What is done under load: beginning verifications use another reward, and their answers say so.

    Attributes:
        reward: the one that is used, for example the same verifier with `voting: exact`.
        above: when more verifications than this wait.
        name: what answers show as their `policy`.
    """

    reward: StepReward
    above: int
    name: str


@dataclass(slots=True)
class ServiceCounts:
    """What has happened since the service was made.

    Attributes:
        calls: of `verify` and `stream`.
        verifications: that were begun; `finished`, `cancelled` and `broken` (a bug in the reward) are their ends.
        joined, recent: calls that shared a running or a finished verification.
        refused: calls that were refused because the queue was full or the service closed.
        late: calls whose deadline had passed before anything was begun for them.
        deadlines: calls whose deadline passed, those included.
        policies: verifications by the load policy that decided them.
        verdicts: of finished verifications, by status.
        usage: of verifications; of one that was cancelled, that of its verdicts.
    """

    calls: int = 0
    verifications: int = 0
    finished: int = 0
    cancelled: int = 0
    broken: int = 0
    joined: int = 0
    recent: int = 0
    refused: int = 0
    late: int = 0
    deadlines: int = 0
    policies: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)


class RewardService:
    """Verifies solutions for many callers. Made and used on one event loop; an async context manager.

    A call for the same problem and steps as one that is running joins it, and one that finished lately is answered from
    its result, unless a fault that may pass took votes from it. A verification whose last caller's deadline has passed
    continues for `linger` seconds, so that the caller's retry finds it; one whose last caller is gone (its task was
    cancelled, or its stream closed) is cancelled at once, and its engine and sandbox work ends. What a bounded caller's
    requests have left lingering is a part of its share: the oldest ends when the caller begins something else.

    Args:
        reward: judges; it stays the caller's.
        in_work: verifications in work at the same time.
        queue: verifications that wait for that.
        deadline: seconds after which a call is answered with what is known, unless it brings a shorter one.
        linger: see above.
        recent: finished verifications that are kept.
        recent_seconds: how long they are kept.
        busy: what is done under load; nothing unless given.
        finished: called with each verification that has finished, before its callers see it.

    Raises:
        ConfigError: a bound that allows nothing.
    """

    def __init__(
        self,
        reward: StepReward,
        *,
        in_work: int = 64,
        queue: int = 1024,
        deadline: float = 600.0,
        linger: float = 300.0,
        recent: int = 1024,
        recent_seconds: float = 600.0,
        busy: BusyPolicy | None = None,
        finished: Callable[[VerifyItem, Answer], None] | None = None,
    ) -> None:
        if in_work < 1 or queue < 0 or not deadline > 0:
            raise ConfigError(
                f"a service with in_work={in_work}, queue={queue} and deadline={deadline} could answer nothing",
                hint="in_work must be at least 1, queue at least 0, and the deadline above 0.",
            )
        self.counts = ServiceCounts()
        self._reward, self._busy, self._tell = reward, busy, finished
        self.in_work, self._queue = in_work, queue
        self._deadline, self._linger = deadline, linger
        self._recent: OrderedDict[str, tuple[float, Answer]] = OrderedDict()
        self._recent_bound, self._recent_seconds = recent, recent_seconds
        self._jobs: dict[str, Job] = {}
        self._lingering: dict[Job, None] = {}  # the oldest first
        self._tasks: set[asyncio.Task[Any]] = set()
        self._slots = asyncio.Semaphore(in_work)
        self._seconds = _FIRST_GUESS_SECONDS
        self._closed = False

    def facts(self) -> RewardFacts:
        """What the reward is."""
        return self._reward.facts()

    @property
    def accepting(self) -> bool:
        """Whether a new verification would be taken on now."""
        return not self._closed and len(self._jobs) < self.in_work + self._queue

    @property
    def running(self) -> int:
        """Verifications in work."""
        return min(len(self._jobs), self.in_work)

    @property
    def waiting(self) -> int:
        """Verifications that wait for a place."""
        return len(self._jobs) - self.running

    async def verify(self, problem: str, steps: Sequence[str], *, deadline: float | None = None) -> Answer:
        """Verify one solution.

        Args:
            problem: its text.
            steps: at least one.
            deadline: seconds after which the answer is what is known by then; never more than the service's own. With
                none left nothing is begun.

        Raises:
            Overloaded: the queue is full, or the service is closed.
        """
        async with aclosing(self.stream(problem, steps, deadline=deadline)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    return event
        raise AssertionError("a stream ends with its answer")

    async def stream(
        self, problem: str, steps: Sequence[str], *, deadline: float | None = None
    ) -> AsyncGenerator[StepVerdict | Answer, None]:
        """As `verify`, but yield each verdict as soon as it stands, in step order, and the answer at the end.

        A caller that joins is given the verdicts that stand already. Closing the generator counts as leaving.
        """
        self.counts.calls += 1
        item = VerifyItem(id=content_key(problem, list(steps)), problem=problem, steps=tuple(steps))
        known = self._known(item.id)
        if known is not None:
            self.counts.recent += 1
            for verdict in known.verification.verdicts:
                yield verdict
            yield replace(known, shared="recent")
            return
        joined = item.id in self._jobs
        if not joined and deadline is not None and deadline <= 0:  # its turn in a request came too late
            self.counts.late += 1
            self.counts.deadlines += 1
            yield Answer(until_now(item, [], self._reward.facts().name, 0.0))
            return
        self.counts.joined += joined
        job = self._jobs[item.id] if joined else self._begin(item)
        job.enter()
        self._lingering.pop(job, None)
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(self._deadline, self._deadline if deadline is None else deadline)
        shown = 0
        late = False
        try:
            while True:
                while shown < len(job.verdicts):
                    yield job.verdicts[shown]
                    shown += 1
                if job.task.done() or loop.time() >= ends:
                    break
                await job.change(ends - loop.time())
            late = not job.task.done()
            if late:
                self.counts.deadlines += 1
                row = job.until_now(self._reward.facts().name)
                yield Answer(row, "joined" if joined else "no", job.policy)
            else:
                answer = self._result(job)
                for verdict in answer.verification.verdicts[shown:]:
                    yield verdict
                yield replace(answer, shared="joined" if joined else "no")
        finally:
            self._leave(job, late=late)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Cancel a caller's own task too when the service closes; so a search does not outlive its verifier."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Refuse new calls, and cancel what is in work; for whoever waits this is `Overloaded`. Idempotent."""
        self._closed = True
        await cancel_all(list(self._tasks))

    async def __aenter__(self) -> RewardService:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _known(self, key: str) -> Answer | None:
        """The result of a verification that finished lately."""
        now = asyncio.get_running_loop().time()
        while self._recent and next(iter(self._recent.values()))[0] <= now:
            self._recent.popitem(last=False)
        found = self._recent.get(key)
        return None if found is None else found[1]

    def _begin(self, item: VerifyItem) -> Job:
        if self._closed:
            self.counts.refused += 1
            raise shutting_down()
        self._give_way(CALLER.get())
        if not self.accepting:
            self.counts.refused += 1
            raise Overloaded(
                f"{self.waiting} verifications are waiting already", retry_after=self._retry_after()
            )
        job = Job(item)
        self.counts.verifications += 1
        self._jobs[item.id] = job
        job.task = asyncio.get_running_loop().create_task(self._work(job))
        self._tasks.add(job.task)
        job.task.add_done_callback(lambda task: self._ended(job, task))
        return job

    def _give_way(self, caller: Caller) -> None:
        """Keep a caller's requests, and those whose work lingers, within what it may have at the same time."""
        free = caller.free()
        if free is None:
            return
        left: dict[Caller, list[Job]] = {}
        for job in self._lingering:
            if job.caller.name == caller.name and not job.caller.inside:
                left.setdefault(job.caller, []).append(job)
        for jobs in list(left.values())[: max(0, len(left) - free)]:
            for job in jobs:
                self._abandon(job)

    def _retry_after(self) -> float:
        """When there is probably room again, in seconds."""
        return min(_LONGEST_RETRY_SECONDS, max(1.0, self.waiting * self._seconds / self.in_work))

    async def _work(self, job: Job) -> Answer:
        async with self._slots:
            try:
                with span("genprm.verify", item=job.item.id, steps=len(job.item.steps)):
                    answer = await self._judged(job)
                self._finished(job, answer)
                return answer
            finally:
                self._forget(job)  # before the next one takes the place

    async def _judged(self, job: Job) -> Answer:
        reward = self._reward
        if self._busy is not None and self.waiting > self._busy.above:
            reward, job.policy = self._busy.reward, self._busy.name
            self.counts.policies[self._busy.name] += 1
        async with aclosing(reward.judge([job.item], on_step=job.step)) as rows:
            async for row in rows:
                return Answer(row, policy=job.policy)
        raise RuntimeError(f"the reward '{reward.facts().name}' gave no verification of an item")

    def _forget(self, job: Job) -> None:
        """Nobody joins it any more."""
        if self._jobs.get(job.item.id) is job:
            del self._jobs[job.item.id]
        self._lingering.pop(job, None)

    def _ended(self, job: Job, task: asyncio.Task[Answer]) -> None:
        self._tasks.discard(task)
        self._forget(job)
        if job.leaving is not None:
            job.leaving.cancel()
        if task.cancelled():
            self.counts.cancelled += 1
            self._paid(job, job.until_now(self._reward.facts().name).usage)
        elif task.exception() is not None:
            self.counts.broken += 1
        job.notify()

    def _paid(self, job: Job, usage: Usage) -> None:
        self.counts.usage += usage
        job.caller.charge(usage)

    def _finished(self, job: Job, answer: Answer) -> None:
        row = answer.verification
        self._paid(job, row.usage)
        if self._tell is not None:
            self._tell(job.item, answer)
        self.counts.finished += 1
        self.counts.verdicts.update(verdict.status for verdict in row.verdicts)
        self._seconds += 0.1 * (row.seconds - self._seconds)
        lost = any(
            verdict.status == "failed" or any(vote.retryable for vote in verdict.votes)
            for verdict in row.verdicts
        )
        if not lost and self._recent_bound:
            expires = asyncio.get_running_loop().time() + self._recent_seconds
            self._recent[row.item_id] = (expires, answer)
            if len(self._recent) > self._recent_bound:
                self._recent.popitem(last=False)

    def _result(self, job: Job) -> Answer:
        """The job's answer; a bug in the reward raises as it came."""
        if job.task.cancelled():
            raise shutting_down()
        return job.task.result()

    def _leave(self, job: Job, *, late: bool) -> None:
        """A caller waits no longer."""
        loop = asyncio.get_running_loop()
        job.waiters -= 1
        if late:
            job.kept_until = loop.time() + self._linger
        if job.waiters or job.task.done():
            return
        left = job.kept_until - loop.time()
        if left > 0:
            job.leaving = loop.call_later(left, self._abandon, job)
            self._lingering[job] = None
        else:
            self._abandon(job)

    def _abandon(self, job: Job) -> None:
        """Nobody wants it any more. An equal request from now on begins anew."""
        self._forget(job)
        job.task.cancel()


def shutting_down() -> Overloaded:
    """What callers are told whose work was cut off, or not begun, because the service closes."""
    return Overloaded("the reward service is shutting down", retry_after=_FIRST_GUESS_SECONDS)
