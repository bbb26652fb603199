"""vLLM's `token_classify` pooling loads what `genprm.train_prm` saves, and gives the same rewards."""

from __future__ import annotations

import pytest

from genprm.records import VerifyItem
from genprm.rewards import judge_all
from genprm.rewards.discriminative.reward import DiscriminativeReward
from genprm.text.step_tokens import StepLayout
from tiny_prm import tiny_prm

pytestmark = pytest.mark.vllm

ITEM = VerifyItem(
    id="one",
    problem="What is 2 + 3 + 4?",
    steps=("Step 1: 2 + 3 = 5.", "Step 2: 5 + 4 = 8.", "Step 3: The answer is \\boxed{8}."),
)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
async def test_pooling_gives_the_same_rewards(architecture: str) -> None:
    vllm = pytest.importorskip("vllm")
    from transformers import AutoTokenizer

    model = tiny_prm(architecture)
    async with DiscriminativeReward(model, dtype="float32", device="cpu") as reward:
        (row,) = await judge_all(reward, [ITEM])
    tokens = StepLayout().encode(AutoTokenizer.from_pretrained(model), ITEM.problem, ITEM.steps)
    engine = vllm.LLM(model, runner="pooling", dtype="float32", enforce_eager=True, max_model_len=256)
    (pooled,) = engine.encode(
        [{"prompt_token_ids": tokens.ids}], pooling_task="token_classify", use_tqdm=False
    )
    served = [float(pooled.outputs.data[end][1]) for end in tokens.ends]
    assert served == pytest.approx([verdict.reward for verdict in row.verdicts], abs=1e-4)
