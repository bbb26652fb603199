"""A value that is found out once."""

from __future__ import annotations

import asyncio

import pytest

from genprm.aio import Once


async def test_tasks_that_ask_together_make_one_call() -> None:
    once: Once[int] = Once()
    calls = 0

    async def make() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return calls

    assert once.value is None
    assert await asyncio.gather(*(once.get(make) for _ in range(50))) == [1] * 50
    assert (await once.get(make), once.value, calls) == (1, 1, 1)


async def test_a_failure_is_shared_and_the_next_task_tries_again() -> None:
    once: Once[str] = Once()
    outcomes = iter([ValueError("first"), ValueError("second"), "third"])

    async def make() -> str:
        await asyncio.sleep(0)
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    for expected in ("first", "second", "third", "third"):
        found = await asyncio.gather(*(once.get(make) for _ in range(5)), return_exceptions=True)
        assert [str(one) for one in found] == [expected] * 5


async def test_a_waiter_that_is_cancelled_leaves_the_call_to_the_others() -> None:
    once: Once[int] = Once()
    go = asyncio.Event()
    ended: list[str] = []

    async def make() -> int:
        try:
            await go.wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return 7

    first, second = (asyncio.create_task(once.get(make)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0.01)
    assert (first.cancelled(), second.done(), ended) == (True, False, [])
    second.cancel()
    await asyncio.sleep(0.01)
    assert ended == ["cancelled"], "nobody waits for it any more"
    go.set()
    assert await once.get(make) == 7


def test_a_second_event_loop_has_the_value() -> None:
    once: Once[int] = Once()

    async def make() -> int:
        return 7

    async def never() -> int:
        pytest.fail("called again")

    assert asyncio.run(once.get(make)) == asyncio.run(once.get(never)) == 7
