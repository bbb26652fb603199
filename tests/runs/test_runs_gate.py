"""The gate before an engine: one bound for all, first come first served, and no hole where somebody gave up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.engines import Completion, Request
from genprm.errors import EngineUnavailable
from genprm.runs.gate import GatedEngine

REQUEST = Request(prompt="p")


class Watched:
    """An engine that counts what is in flight and answers when it is allowed to."""

    name = "scripted:watched"

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.calls: list[int] = []
        self.now = 0
        self.most = 0
        self.closed = 0
        self.go = asyncio.Event()
        self.go.set()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(len(requests))
        self.now += len(requests)
        self.most = max(self.most, self.now)
        try:
            await self.go.wait()
            await asyncio.sleep(self.pause)
            return [Completion(text=str(len(requests)), finish_reason="stop") for _ in requests]
        finally:
            self.now -= len(requests)

    async def check(self) -> None:
        raise EngineUnavailable("checked")

    def describe(self) -> dict[str, Any]:
        return {"kind": "watched"}

    async def aclose(self) -> None:
        self.closed += 1


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 9), max_size=12),
    cancelled=st.sets(st.integers(0, 11)),
)
async def test_the_bound_holds_whatever_comes_and_goes(
    limit: int, sizes: list[int], cancelled: set[int]
) -> None:
    engine = Watched()
    gate = GatedEngine(engine, limit)
    tasks = [asyncio.create_task(gate.generate([REQUEST] * size)) for size in sizes]
    for index, task in enumerate(tasks):
        if index % 3 == 0:
            await asyncio.sleep(0)
        if index in cancelled:
            task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for index, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
        if isinstance(answer, BaseException):
            assert isinstance(answer, asyncio.CancelledError)
            assert index in cancelled
        else:
            assert [one.text for one in answer] == [str(size)] * size
    # A call that is larger than the bound goes through alone.
    assert engine.most <= max([limit, *sizes])
    alone = [size for size in sizes if size >= limit]
    assert engine.most <= limit or engine.most in alone
    # Nothing is held any more: a call as large as the bound gets through at once.
    await asyncio.wait_for(gate.generate([REQUEST] * limit), 5)
    assert engine.now == 0


async def test_calls_go_through_in_the_order_in_which_they_came() -> None:
    engine = Watched()
    engine.go.clear()
    gate = GatedEngine(engine, 4)
    tasks = []
    for size in (3, 4, 1, 2, 1):
        tasks.append(asyncio.create_task(gate.generate([REQUEST] * size)))
        await asyncio.sleep(0)
    assert engine.calls == [3], "the single request does not overtake the four before it"
    engine.go.set()
    await asyncio.gather(*tasks)
    assert engine.calls == [3, 4, 1, 2, 1]


async def test_a_cancelled_waiter_lets_those_behind_it_pass() -> None:
    engine = Watched()
    engine.go.clear()
    gate = GatedEngine(engine, 2)
    first = asyncio.create_task(gate.generate([REQUEST]))
    await asyncio.sleep(0)
    blocked = asyncio.create_task(gate.generate([REQUEST] * 2))
    behind = asyncio.create_task(gate.generate([REQUEST]))
    await asyncio.sleep(0)
    assert engine.calls == [1]
    blocked.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert engine.calls == [1, 1], "the one behind need not wait for the first to end"
    engine.go.set()
    await asyncio.gather(first, behind)
    with pytest.raises(asyncio.CancelledError):
        await blocked


async def test_a_waiter_that_is_admitted_and_cancelled_at_once_gives_its_place_back() -> None:
    engine = Watched()
    gate = GatedEngine(engine, 1)
    engine.go.clear()
    first = asyncio.create_task(gate.generate([REQUEST]))
    await asyncio.sleep(0)
    second = asyncio.create_task(gate.generate([REQUEST]))
    await asyncio.sleep(0)
    first.add_done_callback(lambda _: second.cancel())
    engine.go.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.wait_for(gate.generate([REQUEST]), 5)
    assert engine.now == 0


async def test_a_failed_call_gives_its_place_back() -> None:
    class Failing(Watched):
        async def generate(self, requests: Sequence[Request]) -> list[Completion]:
            raise EngineUnavailable("down")

    gate = GatedEngine(Failing(), 1)
    for _ in range(3):
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(gate.generate([REQUEST]), 5)


async def test_everything_else_is_the_engines_own_and_it_is_closed_once() -> None:
    engine = Watched()
    gate = GatedEngine(engine, 1)
    assert gate.name == engine.name
    assert gate.describe() == {"kind": "watched"}
    with pytest.raises(EngineUnavailable, match="checked"):
        await gate.check()
    await gate.aclose()
    await gate.aclose()
    assert engine.closed == 1
