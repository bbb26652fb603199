"""What every step reward promises, checked on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Any, get_args

import pytest
from reward_kinds import ITEMS, KINDS, Mood, make

from genprm.identity import costs_of
from genprm.records import StepVerdict, Usage, Verification, VerifyItem
from genprm.rewards import (
    IncrementalReward,
    Line,
    StepReward,
    first_error,
    judge_all,
    lost_entirely,
    raise_if_all_failed,
    score_solution,
)
from genprm.rewards.genprm.line import VerifierLine

MOODS: tuple[Mood, ...] = get_args(Mood)
pytestmark = pytest.mark.parametrize("kind", KINDS)


def essence(row: Verification | StepVerdict) -> dict[str, Any]:
    """What a row says, whatever it cost."""
    return row.model_dump(exclude=costs_of(type(row)))


async def slowly(items: Iterable[VerifyItem]) -> AsyncIterator[VerifyItem]:
    for item in items:
        await asyncio.sleep(0)
        yield item


async def grow(reward: IncrementalReward, item: VerifyItem) -> Line:
    """A line that was judged step by step."""
    line = reward.open(item.problem, id=item.id)
    for step in item.steps:
        await line.judge(step)
    return line


async def test_it_says_what_it_is(kind: str) -> None:
    async with make(kind) as made:
        assert isinstance(made.reward, StepReward) and isinstance(made.reward, IncrementalReward)
        facts = made.reward.facts()
        assert (
            facts.kind in ("scripted", "genprm", "discriminative") and facts.name and facts.threshold_source
        )
        assert 0 <= facts.threshold <= 1
        assert facts.incremental is True and facts.critiques in (True, False)
        line = made.reward.open("p")
        assert isinstance(line, Line)
        assert (line.steps, line.verdicts, line.usage) == ((), (), Usage())
        await line.aclose()


@pytest.mark.parametrize("mood", MOODS)
async def test_every_step_has_exactly_one_verdict_whatever_fails(kind: str, mood: Mood) -> None:
    async with make(kind, mood) as made:
        rows = await judge_all(made.reward, ITEMS)
        threshold = made.reward.facts().threshold
    for row, item in zip(rows, ITEMS, strict=True):
        assert (row.item_id, row.problem, row.steps, row.problem_id) == (
            item.id,
            item.problem,
            item.steps,
            item.problem_id,
        )
        assert [verdict.step for verdict in row.verdicts] == list(range(len(item.steps)))
        for verdict in row.verdicts:
            known = verdict.status == "ok"
            assert (verdict.reward is not None) == (verdict.judgement is not None) == known
            assert known or verdict.reason
            if verdict.reward is not None:
                assert 0 <= verdict.reward <= 1
                assert verdict.judgement is (verdict.reward >= threshold)
        assert row.first_error == first_error([verdict.judgement for verdict in row.verdicts])
        assert row.score == score_solution([verdict.reward for verdict in row.verdicts])


async def test_an_outage_is_a_reason_and_never_a_number(kind: str) -> None:
    async with make(kind, "down") as made:
        rows = await judge_all(made.reward, ITEMS)
    for row in rows:
        assert {verdict.status for verdict in row.verdicts} == {"failed"}
        assert all(verdict.reason for verdict in row.verdicts)
        assert row.first_error is None and row.score.mean is None
        assert lost_entirely(row) == ("EngineUnavailable", "no route", True)
    with pytest.raises(Exception, match="no route"):
        raise_if_all_failed(rows)


async def test_what_is_not_a_probability_never_enters_a_mean(kind: str) -> None:
    async with make(kind, "odd") as made:
        rows = await judge_all(made.reward, ITEMS)
    verdicts = [verdict for row in rows for verdict in row.verdicts]
    assert {verdict.status for verdict in verdicts} <= {"unparsed", "skipped"}
    assert any(verdict.status == "unparsed" for verdict in verdicts)
    assert all(verdict.reason for verdict in verdicts)


async def test_results_depend_on_nothing_but_the_items(kind: str) -> None:
    async with make(kind) as made:
        first = [essence(row) for row in await judge_all(made.reward, ITEMS)]
        again = [essence(row) for row in await judge_all(made.reward, ITEMS)]
    assert first == again
    async with make(kind, "slow" if kind != "local" else "calm", concurrency=2) as made:
        backwards = await judge_all(made.reward, ITEMS[::-1])
        assert [essence(row) for row in backwards[::-1]] == first
        (alone,) = await judge_all(made.reward, ITEMS[3:4])
        assert essence(alone) == first[3]


async def test_items_come_from_any_iterable(kind: str) -> None:
    async with make(kind) as made:
        expected = [essence(row) for row in await judge_all(made.reward, ITEMS)]
        for source in (iter(ITEMS), (item for item in ITEMS), slowly(ITEMS)):
            rows = {row.item_id: row async for row in made.reward.judge(source)}
            assert [essence(rows[item.id]) for item in ITEMS] == expected
        assert [row async for row in made.reward.judge([])] == []
        assert [row async for row in made.reward.judge(slowly([]))] == []


async def test_items_are_read_only_as_fast_as_they_are_judged(kind: str) -> None:
    read = finished = 0

    def endless() -> Iterator[VerifyItem]:
        nonlocal read
        while True:
            read += 1
            yield VerifyItem(id=str(read), problem="p", steps=("Step 1: 1 + 1 = 2",))

    async with make(kind, concurrency=4) as made, aclosing(made.reward.judge(endless())) as rows:
        async for _ in rows:
            finished += 1
            assert read - finished <= 6
            if finished == 40:
                break


async def test_leaving_early_cancels_and_frees(kind: str) -> None:
    async with make(kind, "slow") as made:
        await judge_all(made.reward, ITEMS)  # what starts once has started
        before = asyncio.all_tasks()
        async with aclosing(made.reward.judge(slowly(ITEMS * 3))) as rows:
            async for _ in rows:
                break
        assert asyncio.all_tasks() <= before
        assert not made.sessions
        calls = len(made.calls)
        await asyncio.sleep(0.01)
        assert len(made.calls) == calls


async def test_nothing_stays_open_after_a_solution(kind: str) -> None:
    async with make(kind, "flaky") as made:
        await judge_all(made.reward, ITEMS)
        assert not made.sessions


async def test_verdicts_are_announced_once_and_in_order(kind: str) -> None:
    seen: list[tuple[str, StepVerdict]] = []
    async with make(kind, "slow") as made:
        rows = await judge_all(
            made.reward, ITEMS, on_step=lambda name, verdict: seen.append((name, verdict))
        )
        for row in rows:
            assert tuple(verdict for name, verdict in seen if name == row.item_id) == row.verdicts
        count = len(seen)
        assert count == sum(len(item.steps) for item in ITEMS)
        await judge_all(made.reward, ITEMS)
        assert len(seen) == count


@pytest.mark.parametrize("mood", ["calm", "flaky"])
async def test_a_line_gives_the_verdicts_of_the_whole_solution(kind: str, mood: Mood) -> None:
    async with make(kind, mood) as made:
        rows = await judge_all(made.reward, ITEMS)
        for row, item in zip(rows, ITEMS, strict=True):
            line = await grow(made.reward, item)
            assert line.steps == item.steps
            assert [essence(v) for v in line.verdicts] == [essence(v) for v in row.verdicts]
            assert line.usage.completion_tokens == row.usage.completion_tokens
            assert line.usage.requests == row.usage.requests
            await line.aclose()
        assert not made.sessions


async def test_a_line_returns_what_it_keeps(kind: str) -> None:
    async with make(kind) as made:
        line = made.reward.open(ITEMS[3].problem)
        returned = [await line.judge(step) for step in ITEMS[3].steps]
        assert tuple(returned) == line.verdicts
        assert [verdict.step for verdict in returned] == list(range(len(returned)))
        await line.aclose()


@pytest.mark.parametrize("mood", ["calm", "flaky"])
async def test_forks_are_independent(kind: str, mood: Mood) -> None:
    """Every line of a tree ends with the verdicts of its own solution, whatever the others do meanwhile."""
    start, ends = (
        ITEMS[3].steps[:2],
        [("Step 3: 5 + 5 = 10", "Step 4: 6 + 6 = 12"), ("Step 3: 9 + 9 = 18",)],
    )
    async with make(kind, mood) as made:
        root = made.reward.open(ITEMS[3].problem, id="tree")
        for step in start:
            await root.judge(step)
        known, spent = root.verdicts, root.usage

        async def branch(steps: tuple[str, ...]) -> Line:
            line = await root.fork()
            assert (line.steps, line.verdicts, line.usage) == (start, known, Usage())
            for step in steps:
                await line.judge(step)
            return line

        lines = await asyncio.gather(*map(branch, ends), branch(ends[0]))
        assert (root.steps, root.verdicts, root.usage) == (start, known, spent)
        await root.aclose()
        leaf = await lines[0].fork()
        await lines[0].aclose()
        await leaf.judge("Step 5: 1 + 1 = 2")
        for line, steps in [
            (lines[1], ends[1]),
            (lines[2], ends[0]),
            (leaf, (*ends[0], "Step 5: 1 + 1 = 2")),
        ]:
            whole = VerifyItem(id="tree", problem=ITEMS[3].problem, steps=(*start, *steps))
            (row,) = await judge_all(made.reward, [whole])
            assert line.steps == whole.steps
            assert [essence(v) for v in line.verdicts] == [essence(v) for v in row.verdicts]
            await line.aclose()
        assert not made.sessions


async def test_calls_on_one_line_follow_each_other(kind: str) -> None:
    item = ITEMS[3]
    async with make(kind, "slow") as made:
        line = made.reward.open(item.problem, id=item.id)
        await asyncio.gather(*(line.judge(step) for step in item.steps))
        (row,) = await judge_all(made.reward, [item])
        assert [essence(v) for v in line.verdicts] == [essence(v) for v in row.verdicts]
        await line.aclose()


async def test_a_closed_line_can_only_be_read(kind: str) -> None:
    async with make(kind) as made:
        line = await grow(made.reward, ITEMS[1])
        verdicts = line.verdicts
        await line.aclose()
        await line.aclose()
        assert (line.steps, line.verdicts) == (ITEMS[1].steps, verdicts)
        for call in (line.judge("Step 3: 1 + 1 = 2"), line.fork()):
            with pytest.raises(RuntimeError, match="closed"):
                await call
        assert not made.sessions


async def test_an_interrupted_line_is_never_half_judged(kind: str) -> None:
    """After a cancellation a line either stands where it stood, or is closed."""
    async with make(kind, "slow") as made:
        line = made.reward.open(ITEMS[3].problem, id="one")
        await line.judge(ITEMS[3].steps[0])
        before = line.verdicts
        task = asyncio.ensure_future(line.judge(ITEMS[3].steps[1]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert (line.steps, line.verdicts) == (ITEMS[3].steps[:1], before)
        if isinstance(line, VerifierLine):
            with pytest.raises(RuntimeError, match="closed"):
                await line.judge(ITEMS[3].steps[1])
            assert not made.sessions
        else:
            await line.judge(ITEMS[3].steps[1])
        await line.aclose()


async def test_closing_twice_is_closing_once(kind: str) -> None:
    async with make(kind) as made:
        await judge_all(made.reward, ITEMS[:1])
        await made.reward.aclose()
        await made.reward.aclose()
        assert not made.sessions
