"""Bounded concurrency and retries."""

from __future__ import annotations

import asyncio
import random

import pytest

from genprm.aio import RetryPolicy, bounded_map, chunked, derive_seed, retry, stream_map
from genprm.errors import EngineError, EngineUnavailable

FAST = RetryPolicy(attempts=4, base_seconds=0.001, cap_seconds=0.01)


async def test_bounded_map_keeps_order_and_its_bound():
    running = peak = 0

    async def work(item: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.001 * (item % 3))
        running -= 1
        return item * item

    assert await bounded_map(work, range(20), 4) == [item * item for item in range(20)]
    assert peak == 4


async def test_stream_map_reads_its_items_only_as_calls_finish():
    taken = 0

    def items():
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    async def work(item: int) -> int:
        await asyncio.sleep(0)
        return item

    seen = 0
    async for _index, _result in stream_map(work, items(), 8):
        seen += 1
        assert taken <= seen + 8
    assert seen == 1000


async def test_stream_map_cancels_what_is_in_flight_after_a_failure():
    cancelled = []

    async def work(item: int) -> int:
        if item == 2:
            raise ValueError("bad item")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    with pytest.raises(ValueError, match="bad item"):
        await bounded_map(work, range(5), 5)
    assert sorted(cancelled) == [0, 1, 3, 4]


async def test_retry_repeats_only_retryable_errors():
    calls = 0

    async def flaky() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise EngineUnavailable("down")
        return "up"

    heard = []
    assert (
        await retry(flaky, FAST, on_retry=lambda error, wait: heard.append((error.message, wait))) == "up"
    )
    assert calls == 3
    assert [message for message, _ in heard] == ["down", "down"]

    async def broken() -> str:
        nonlocal calls
        calls += 1
        raise EngineError("for good")

    calls = 0
    with pytest.raises(EngineError, match="for good"):
        await retry(broken, FAST)
    assert calls == 1


async def test_retry_gives_up_with_the_last_error():
    async def down() -> str:
        raise EngineUnavailable("still down")

    with pytest.raises(EngineUnavailable, match="still down"):
        await retry(down, FAST)


def test_waits_double_are_jittered_and_respect_the_server():
    policy = RetryPolicy(base_seconds=1.0, cap_seconds=5.0)
    rng = random.Random(1)
    for attempt, bound in enumerate([1, 2, 4, 5, 5]):
        waits = [policy.wait_seconds(attempt, None, rng) for _ in range(50)]
        assert all(bound / 2 <= wait <= bound for wait in waits)
        assert len(set(waits)) > 1
    assert 3.0 <= policy.wait_seconds(0, 3.0, rng) <= 3.2
    assert policy.wait_seconds(0, 3600.0, rng) == 5.0


def test_chunked():
    assert chunked([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert chunked([], 3) == []
    with pytest.raises(ValueError, match="at least 1"):
        chunked([1], 0)


def test_seeds_depend_on_every_part_and_on_where_parts_end():
    assert 0 <= derive_seed(0, "a") < 2**31
    assert derive_seed(0, "a", 1) != derive_seed(0, "a1") != derive_seed(1, "a1")
