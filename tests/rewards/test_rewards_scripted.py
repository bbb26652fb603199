"""The public fake: whatever its function says becomes an honest verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from genprm.errors import EngineTimeout, SandboxUnavailable
from genprm.records import StepVerdict, VerifyItem, VoteStatus
from genprm.rewards import ScriptedReward, judge_all

ITEM = VerifyItem(id="one", problem="p", steps=("a", "b", "c"))


async def verdict_on(answer: Any, **options: Any) -> StepVerdict:
    def judge_step(problem: str, steps: Sequence[str], index: int) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    line = ScriptedReward(judge_step, **options).open("p")
    return await line.judge("a")


@pytest.mark.parametrize(
    ("answer", "reward"), [(0.7, 0.7), (True, 1.0), (False, 0.0), (1, 1.0), (0.5, 0.5)]
)
async def test_numbers_and_truth_values_are_rewards(answer: float, reward: float) -> None:
    found = await verdict_on(answer)
    assert (found.status, found.reward, found.judgement) == ("ok", reward, reward >= 0.5)
    assert [(vote.reward, vote.judgement) for vote in found.votes] == [(reward, reward >= 0.5)]
    assert (await verdict_on(answer, threshold=0.6)).judgement is (reward >= 0.6)


async def test_none_is_unknown() -> None:
    assert await verdict_on(None) == StepVerdict(step=0, status="unparsed", reason="scripted: unknown")


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, -0.01, 1.01])
async def test_what_is_no_reward_is_unknown(answer: float) -> None:
    found = await verdict_on(answer)
    assert (found.status, found.reward, found.votes) == ("unparsed", None, ())
    assert found.reason == f"scripted: {answer} is not in [0, 1]"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (EngineTimeout("late"), VoteStatus.ENGINE_FAILED),
        (SandboxUnavailable("none"), VoteStatus.SANDBOX_FAILED),
    ],
)
async def test_faults_are_statuses_and_bugs_raise(error: EngineTimeout, status: VoteStatus) -> None:
    found = await verdict_on(error)
    assert found.status == "failed" and found.reward is None
    (vote,) = found.votes
    assert (vote.status, vote.retryable) == (status, error.retryable)
    assert vote.reason == f"{type(error).__name__}: {error.message}"
    with pytest.raises(ZeroDivisionError):
        await verdict_on(ZeroDivisionError("bug"))


async def test_a_whole_verdict_is_taken_as_it_is() -> None:
    given = StepVerdict(step=7, reward=0.2, judgement=True, reason="as told")
    assert await verdict_on(given) == given.model_copy(update={"step": 0})


async def test_the_function_sees_the_steps_so_far() -> None:
    seen = []

    async def judge_step(problem: str, steps: Sequence[str], index: int) -> bool:
        seen.append((problem, tuple(steps), index))
        return True

    (row,) = await judge_all(ScriptedReward(judge_step, "mine"), [ITEM])
    assert seen == [("p", ("a",), 0), ("p", ("a", "b"), 1), ("p", ("a", "b", "c"), 2)]
    assert (row.verifier, row.first_error, row.components) == ("scripted:mine", -1, "")
    assert ScriptedReward(judge_step, "scripted:x").facts().name == "scripted:x"
