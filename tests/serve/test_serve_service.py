"""The service: one verification for equal requests, honest deadlines, and no work that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from genprm import ConfigError, EngineUnavailable, Overloaded, ScriptedEngine, ScriptedReward, Verifier
from genprm.config import VerifyConfig
from genprm.records import StepVerdict, Vote, VoteStatus
from genprm.serve import Answer, BusyPolicy, RewardService

STEPS = ("Step 1: one", "Step 2: two", "Step 3: three")


class Gate:
    """A script whose steps wait until they are let through; it counts what was begun and what was cancelled."""

    def __init__(self, answer: Any = 0.75) -> None:
        self.answer = answer
        self.asked: list[tuple[str, int]] = []
        self.cancelled = 0
        self.permits = asyncio.Semaphore(0)
        self.begun = asyncio.Event()

    async def __call__(self, problem: str, steps: Sequence[str], index: int) -> Any:
        self.asked.append((problem, index))
        self.begun.set()
        try:
            await self.permits.acquire()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def open(self, steps: int = 1000) -> None:
        for _ in range(steps):
            self.permits.release()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def served(gate: Any, **options: Any) -> AsyncIterator[RewardService]:
    async with RewardService(ScriptedReward(gate), **options) as service:
        yield service


async def test_a_call_gets_one_verdict_per_step() -> None:
    async with served(lambda problem, steps, index: 0.75 if index else 0.25) as service:
        answer = await service.verify("p", STEPS)
        assert [verdict.reward for verdict in answer.verification.verdicts] == [0.25, 0.75, 0.75]
        assert answer.verification.first_error == 0
        assert (answer.shared, answer.policy, answer.unknown) == ("no", None, None)
        assert service.facts().kind == "scripted"


async def test_equal_calls_share_one_verification_and_each_is_streamed_every_step() -> None:
    gate = Gate()

    async def read(service: RewardService) -> list[Any]:
        return [event async for event in service.stream("p", STEPS)]

    async with served(gate) as service:
        calls = [asyncio.create_task(read(service)) for _ in range(4)]
        await gate.begun.wait()
        gate.open(1)
        await until(lambda: len(gate.asked) == 2)
        calls += [asyncio.create_task(read(service)) for _ in range(4)]
        await asyncio.sleep(0)
        gate.open()
        found = await asyncio.gather(*calls)
        found.append(await read(service))
    assert [index for _, index in gate.asked] == [0, 1, 2]
    for events in found:
        assert [event.step for event in events[:-1]] == [0, 1, 2]
        assert isinstance(events[-1], Answer) and events[-1].unknown is None
    assert [events[-1].shared for events in found] == ["no", *["joined"] * 7, "recent"]
    counts = service.counts
    assert (counts.calls, counts.verifications, counts.joined, counts.recent) == (9, 1, 7, 1)
    assert counts.verdicts == {"ok": 3}


async def test_unequal_calls_do_not_share() -> None:
    async with served(lambda problem, steps, index: 0.75) as service:
        for problem, steps in (("p", ("ab", "c")), ("p", ("a", "bc")), ("p", ("abc",)), ("q", ("abc",))):
            assert (await service.verify(problem, steps)).shared == "no"


async def test_a_deadline_gives_what_is_known_and_a_retry_joins() -> None:
    gate = Gate()
    async with served(gate, linger=60) as service:
        first = asyncio.create_task(service.verify("p", STEPS, deadline=0.3))
        await gate.begun.wait()
        gate.open(1)
        answer = await first
        assert [verdict.reward for verdict in answer.verification.verdicts] == [0.75, None, None]
        assert [verdict.reason for verdict in answer.verification.verdicts] == [
            None,
            "deadline",
            "deadline",
        ]
        assert answer.verification.first_error is None and answer.verification.score.min is None
        assert answer.unknown is not None
        assert (answer.unknown.kind, answer.unknown.transient) == ("deadline", True)
        again = asyncio.create_task(service.verify("p", STEPS))
        await asyncio.sleep(0)
        gate.open()
        assert (await again).shared == "joined"
    assert [index for _, index in gate.asked] == [0, 1, 2]
    assert (service.counts.deadlines, service.counts.cancelled) == (1, 0)


async def test_a_deadline_of_nothing_is_answered_at_once() -> None:
    async with served(Gate(), linger=0) as service, asyncio.timeout(20):
        answer = await service.verify("p", STEPS, deadline=0)
    assert answer.unknown is not None and answer.unknown.kind == "deadline"


async def test_a_verification_that_no_retry_joined_is_cancelled_in_the_end() -> None:
    gate = Gate()
    async with served(gate, linger=0.05) as service:
        answer = await service.verify("p", STEPS, deadline=0.01)
        assert answer.unknown is not None and answer.unknown.kind == "deadline"
        await until(lambda: gate.cancelled == 1)
        await until(lambda: service.counts.cancelled == 1)
        assert service.running == service.waiting == 0


async def test_work_that_its_last_caller_left_is_cancelled_and_frees_the_place() -> None:
    gate = Gate()
    async with served(gate, in_work=1) as service:
        calls = [asyncio.create_task(service.verify("p", STEPS)) for _ in range(2)]
        await gate.begun.wait()
        calls[0].cancel()
        await asyncio.gather(calls[0], return_exceptions=True)
        assert gate.cancelled == 0  # one still waits
        calls[1].cancel()
        await asyncio.gather(calls[1], return_exceptions=True)
        await until(lambda: gate.cancelled == 1)
        gate.open()
        answer = await service.verify("p", STEPS)
        assert (answer.shared, answer.unknown) == ("no", None)


async def test_a_closed_stream_counts_as_leaving() -> None:
    gate = Gate()
    gate.open(1)
    async with served(gate) as service:
        async with aclosing(service.stream("p", STEPS)) as events:
            first = await anext(events)
            assert isinstance(first, StepVerdict) and first.step == 0
        await until(lambda: gate.cancelled == 1)


async def test_leaving_reaches_the_engine() -> None:
    cancelled, asked = asyncio.Event(), asyncio.Event()

    async def hang(request: Any) -> str:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("it hangs")

    verifier = Verifier(ScriptedEngine(hang), options=VerifyConfig(components="cot", profile="compact"))
    async with RewardService(verifier) as service:
        call = asyncio.create_task(service.verify("p", STEPS))
        async with asyncio.timeout(20):
            await asked.wait()
            call.cancel()
            await cancelled.wait()


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    gate = Gate()
    async with served(gate, in_work=1, queue=1) as service:
        calls = [asyncio.create_task(service.verify(f"p{number}", STEPS)) for number in range(2)]
        await gate.begun.wait()
        assert (service.running, service.waiting, service.accepting) == (1, 1, False)
        with pytest.raises(Overloaded) as refused:
            await service.verify("p2", STEPS)
        assert refused.value.retryable and 1 <= refused.value.retry_after <= 60
        joined = asyncio.create_task(service.verify("p1", STEPS))  # needs no place of its own
        await asyncio.sleep(0)
        gate.open()
        assert [answer.unknown for answer in await asyncio.gather(*calls, joined)] == [None] * 3
        assert service.counts.refused == 1 and service.accepting


async def test_a_fault_that_may_pass_is_asked_again_and_one_that_will_not_is_kept() -> None:
    for error, kept in ((EngineUnavailable("down"), False), (None, True)):
        gate = Gate(error)  # None: the script does not know
        gate.open()
        async with served(gate) as service:
            first, second = [await service.verify("p", STEPS[:1]) for _ in range(2)]
            assert (second.shared == "recent") is kept
            assert first.unknown is not None
            assert first.unknown.kind == ("unparsed" if kept else "engine_failed")
            assert first.unknown.transient is not kept


async def test_the_reason_of_a_lost_step_names_the_part_that_failed() -> None:
    def judge(problem: str, steps: Sequence[str], index: int) -> Any:
        vote = Vote(status=VoteStatus.SANDBOX_FAILED, reason="SandboxDied: gone", retryable=True)
        return StepVerdict(step=index, status="failed", votes=(vote,))

    async with served(judge) as service:
        unknown = (await service.verify("p", STEPS)).unknown
    assert unknown is not None
    assert (unknown.kind, unknown.detail, unknown.transient) == (
        "sandbox_failed",
        "step 1: SandboxDied: gone",
        True,
    )


async def test_load_is_met_by_a_stated_policy_that_every_answer_shows() -> None:
    gate = Gate()
    cheap = ScriptedReward(lambda problem, steps, index: 0.25)
    busy = BusyPolicy(cheap, above=0, name="cheap when any wait")
    async with served(gate, in_work=1, busy=busy) as service:
        calls = [asyncio.create_task(service.verify("p0", STEPS))]
        await gate.begun.wait()
        calls += [asyncio.create_task(service.verify(f"p{number}", STEPS)) for number in (1, 2)]
        await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*calls)
        assert [answer.policy for answer in answers] == [None, "cheap when any wait", None]
        assert answers[1].verification.score.min == 0.25
        assert (await service.verify("p1", STEPS)).policy == "cheap when any wait"
        assert service.counts.policies == {"cheap when any wait": 1}


async def test_a_closing_service_says_so_to_whoever_waits() -> None:
    gate = Gate()
    async with served(gate) as service:
        call = asyncio.create_task(service.verify("p", STEPS))
        await gate.begun.wait()
    with pytest.raises(Overloaded, match="shutting down"):
        await call
    with pytest.raises(Overloaded, match="shutting down"):
        await service.verify("p", STEPS)
    assert gate.cancelled == 1 and not service.accepting


async def test_a_bug_in_a_reward_is_raised_to_every_caller_and_the_next_call_begins_anew() -> None:
    gate = Gate(KeyError("bug"))
    async with served(gate) as service:
        calls = [asyncio.create_task(service.verify("p", STEPS)) for _ in range(2)]
        await gate.begun.wait()
        gate.open()
        assert [type(one) for one in await asyncio.gather(*calls, return_exceptions=True)] == [KeyError] * 2
        gate.answer = 0.75
        assert (await service.verify("p", STEPS)).unknown is None
        assert service.counts.broken == 1


async def test_recent_results_are_bounded_in_number_and_age() -> None:
    async with served(lambda problem, steps, index: 0.75, recent=2) as service:
        for problem in ("a", "b", "c"):
            await service.verify(problem, STEPS)
        assert [(await service.verify(p, STEPS)).shared for p in ("b", "c", "a")] == [
            "recent",
            "recent",
            "no",
        ]
    async with served(lambda problem, steps, index: 0.75, recent_seconds=0) as service:
        assert [(await service.verify("a", STEPS)).shared for _ in range(2)] == ["no", "no"]


@pytest.mark.parametrize("options", [{"in_work": 0}, {"queue": -1}, {"deadline": 0}])
def test_bounds_that_allow_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="could answer nothing"):
        RewardService(ScriptedReward(lambda problem, steps, index: 1.0), **options)
