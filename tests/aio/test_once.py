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


async def test_a_failure_is_raised_and_the_next_task_tries_again() -> None:
    once: Once[str] = Once()
    outcomes = iter([ValueError("first"), ValueError("second"), "third"])

    async def make() -> str:
        await asyncio.sleep(0)
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    found = await asyncio.gather(*(once.get(make) for _ in range(5)), return_exceptions=True)
    assert [str(one) for one in found] == ["first", "second", "third", "third", "third"]


def test_a_second_event_loop_has_the_value() -> None:
    once: Once[int] = Once()

    async def make() -> int:
        return 7

    async def never() -> int:
        pytest.fail("called again")

    assert asyncio.run(once.get(make)) == asyncio.run(once.get(never)) == 7
