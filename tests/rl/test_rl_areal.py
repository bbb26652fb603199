"""AReaL's workflow, over a base that does what `RLVRWorkflow` of areal 1.0.4 does around the reward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from genprm import DataError
from genprm.rl.areal import Episode
from rl.conftest import DOWN, GOOD, ODD
from training.tiny_tokenizers import byte_tokenizer

pytestmark = pytest.mark.usefixtures("scorer")


class Recorded:
    """Generates a response, asks for its reward with these arguments, and makes the result from both."""

    def __init__(self, reward_fn: Any, gconfig: Any, tokenizer: Any) -> None:
        self.reward_fn, self.gconfig, self.tokenizer = reward_fn, gconfig, tokenizer

    async def arun_episode(self, engine: Any, data: dict[str, Any]) -> dict[str, Any]:
        resp = await engine.agenerate(self.gconfig)
        reward = await self._compute_rewards(resp, "the prompt", data)  # type: ignore[attr-defined]
        return {"rewards": float(reward)}


class Workflow(Episode, Recorded):
    pass


class Policy:
    def __init__(self, text: str) -> None:
        self.tokens = byte_tokenizer("").encode(f"{text}<|im_end|>")

    async def agenerate(self, _: Any) -> Any:
        return SimpleNamespace(output_tokens=self.tokens)


def workflow() -> Workflow:
    return Workflow(gconfig=None, tokenizer=byte_tokenizer(""))


ROW = {"messages": [{"role": "user", "content": "What is it?"}], "answer": "5"}


async def test_an_episode_has_its_score_and_an_unknown_one_is_rejected() -> None:
    assert await workflow().arun_episode(Policy(GOOD), ROW) == {"rewards": 0.9}
    assert await workflow().arun_episode(Policy(GOOD), {"question": "What?"}) == {"rewards": 0.9}
    assert await workflow().arun_episode(Policy(ODD), ROW) is None
    assert await workflow().arun_episode(Policy(DOWN), ROW) is None


async def test_a_row_without_a_problem_is_a_mistake() -> None:
    with pytest.raises(DataError, match="no problem"):
        await workflow().arun_episode(Policy(GOOD), {"messages": []})


def test_nobody_calls_the_reward_function() -> None:
    with pytest.raises(AssertionError, match="no reward function"):
        workflow().reward_fn("prompt", "completion")
