"""TRL's own trainer takes optimizer steps with the reward function."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from genprm import EngineUnavailable, Scorer, ScriptedReward
from genprm.rl.trl import GenPRMReward
from training.tiny_tokenizers import byte_tokenizer

pytestmark = pytest.mark.slow


def by_letters(problem: str, steps: Sequence[str], index: int) -> float:
    """A reward that a random text has, and a fault for every other text."""
    step = steps[index]
    if len(step) % 2 == 0:
        raise EngineUnavailable("the engine is down")
    return sum(map(ord, step)) % 100 / 99


def test_two_steps_of_grpo_and_what_is_unknown_moves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    import datasets
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    tokenizer = byte_tokenizer("")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scorer = Scorer(ScriptedReward(by_letters))
    options: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "num_generations": 8,
        "max_completion_length": 12,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
    }
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=GenPRMReward(scorer, question="question"),
        args=GRPOConfig(**options),
        train_dataset=datasets.Dataset.from_list([{"prompt": "1 + 1 =", "question": "What is 1 + 1?"}] * 8),
        processing_class=tokenizer,
    )
    trainer.train()
    scorer.close()
    assert trainer.state.global_step == 2
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    rewards, extra = list(trainer._logs["rewards"]["genprm"]), trainer._logs["extra"]
    advantages, kinds = list(trainer._logs["advantages"]), list(extra["genprm_unknown"])
    assert len(rewards) == len(advantages) == len(kinds) == 8, "the last step's"
    assert {"", "engine_failed"} <= set(kinds), "the texts should give scores and faults"
    for reward, advantage, kind, steps in zip(
        rewards, advantages, kinds, extra["genprm_steps"], strict=True
    ):
        assert math.isnan(reward) == bool(kind)
        assert not kind or advantage == 0
        assert (None in json.loads(steps)) == (kind == "engine_failed")
    logged = [row["genprm/unknown"] for row in trainer.state.log_history if "genprm/unknown" in row]
    assert logged[1] == pytest.approx(sum(map(bool, kinds)) / 8)
