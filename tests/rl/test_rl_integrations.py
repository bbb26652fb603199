"""The real its_hub, verl and SkyRL call the adapters. They have an environment of their own: `make test-integrations`."""

from __future__ import annotations

import math
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genprm import Scorer, UnknownReward
from rl.conftest import BAD, DOWN, GOOD, ODD
from training.tiny_tokenizers import byte_tokenizer

pytestmark = [pytest.mark.integrations, pytest.mark.usefixtures("scorer")]
CHAT = [{"role": "user", "content": "What is it?"}]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


# its_hub


def language_model(texts: list[str]) -> Any:
    from its_hub.api import AbstractLanguageModel

    class Fixed(AbstractLanguageModel):
        """Says these texts one after another."""

        def __init__(self) -> None:
            self.left = list(texts)

        async def agenerate(self, messages: Any, stop: str | None = None, **_: Any) -> Any:
            return [await self.agenerate_single(chat) for chat in messages]

        async def agenerate_single(self, messages: Any, stop: str | None = None, **_: Any) -> Any:
            return {"role": "assistant", "content": self.left.pop(0)}

    return Fixed()


async def test_its_hub_best_of_n_takes_the_best_and_never_the_unknown(scorer: Scorer) -> None:
    from its_hub.core.algorithms.bon import BestOfN

    from genprm.rl.its_hub import GenPRMOutcome

    chosen = await BestOfN(GenPRMOutcome(scorer)).ainfer(
        language_model([ODD, BAD, GOOD, DOWN]), "What is it?", 4, return_response_only=False
    )
    assert chosen.scores == [-math.inf, 0.1, 0.9, -math.inf]
    assert chosen.the_one["content"] == GOOD
    with pytest.raises(UnknownReward):
        await BestOfN(GenPRMOutcome(scorer)).ainfer(language_model([ODD, DOWN]), "What is it?", 2)


async def test_its_hub_beam_search_follows_the_better_step(scorer: Scorer) -> None:
    from its_hub.core.algorithms.beam_search import BeamSearch
    from its_hub.core.lms.step_generation import StepGeneration

    from genprm.rl.its_hub import GenPRMProcess

    steps = StepGeneration(max_steps=1, step_token="\n\n")
    model = language_model(
        ["A good start.", "A bad start.", "An odd end.", "A good end.", "A bad end.", "It is down."]
    )
    search = BeamSearch(steps, GenPRMProcess(scorer), beam_width=1)
    chosen = await search.ainfer(model, "What is it?", 2, return_response_only=False)
    assert chosen.the_one["content"] == GOOD
    assert chosen.scores[chosen.selected_index] == 0.9


# verl


def verl_config(folder: Path, estimator: str) -> Any:
    from omegaconf import OmegaConf

    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    manager = {
        "source": "importlib",
        "name": "GenPRMRewardManager",
        "module": {"path": "pkg://genprm.rl.verl"},
    }
    return OmegaConf.create(
        {
            "actor_rollout_ref": {"model": {"tokenizer_path": None, "path": str(folder)}},
            "algorithm": {"adv_estimator": estimator},
            "reward": {
                "custom_reward_function": {"path": None, "name": "compute_score", "reward_kwargs": {}},
                "reward_manager": manager,
                "reward_model": {"enable": False},
                "sandbox_fusion": None,
            },
        }
    )


def verl_data(texts: list[str]) -> Any:
    """As verl's agent loop asks about responses (`_compute_score`): prompts on the left, padding on the right."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    tokenizer = byte_tokenizer(TEMPLATE)
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    ids = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts]
    width = max(map(len, ids))
    responses = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids]
    masks = [[1] * (len(prompt) + len(row)) + [0] * (width - len(row)) for row in ids]
    batch = {
        "prompts": torch.tensor([prompt] * len(texts)),
        "responses": torch.tensor(responses),
        "attention_mask": torch.tensor(masks),
    }
    chats = np.empty(len(texts), dtype=object)
    chats[:] = [CHAT] * len(texts)
    return DataProto(
        batch=TensorDict(batch, batch_size=len(texts)),
        non_tensor_batch={"raw_prompt": chats, "uid": np.array(["p"] * len(texts), dtype=object)},
    )


async def test_verl_rewards_steps_and_leaves_the_unknown_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    monkeypatch.setenv("GENPRM_CREDIT", "sum")
    worker = RewardLoopWorker(verl_config(tmp_path, "genprm"))
    data = verl_data([GOOD, BAD, ODD, DOWN])
    found = await worker.compute_score_batch(data)
    assert [row["reward_score"] for row in found[:2]] == [0.9, 0.1]
    assert all(math.isnan(row["reward_score"]) for row in found[2:])
    assert len({tuple(row["reward_extra_info"]) for row in found}) == 1
    assert [row["reward_extra_info"]["genprm_reason"] for row in found] == [
        "",
        "",
        "unparsed",
        "engine_failed",
    ]

    scores = [row["reward_score"] for row in found]
    placed = worker.reward_manager.assemble_rm_scores(data, scores)
    cut = GOOD.index("\n")
    assert placed[0].nonzero().flatten().tolist() == [cut - 1, len(GOOD)]
    assert placed[1, [cut - 1, len(BAD)]].tolist() == pytest.approx([0.9, 0.1])
    assert placed[2].isnan().nonzero().flatten().tolist() == [len(ODD)]

    advantages, _ = get_adv_estimator_fn("genprm")(  # as `compute_advantage` of verl's trainer calls it
        token_level_rewards=placed,
        response_mask=data.batch["attention_mask"][:, -placed.shape[1] :],
        config={"norm_adv_by_std_in_grpo": False},
        index=data.non_tensor_batch["uid"],
    )
    mean = (0.9 * 5 + 0.1) / 6
    assert advantages[0, 0].item() == pytest.approx(1.8 - 2 * mean)
    assert advantages[1, len(BAD)].item() == pytest.approx(0.1 - mean)
    assert not advantages[2:].any()
    assert advantages.isfinite().all()


async def test_verl_gets_no_number_for_unknown_if_its_estimator_would_learn_from_it(tmp_path: Path) -> None:
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    worker = RewardLoopWorker(verl_config(tmp_path, "grpo"))
    (good,) = await worker.compute_score_batch(verl_data([GOOD]))
    assert good["reward_score"] == 0.9
    placed = worker.reward_manager.assemble_rm_scores(verl_data([GOOD]), [good["reward_score"]])
    assert placed.nonzero().flatten().tolist() == [0, len(GOOD)], "one reward, at the last token"
    for text in (ODD, DOWN):
        with pytest.raises(UnknownReward):
            await worker.compute_score_batch(verl_data([text]))


async def test_verl_calls_the_function_through_its_own_manager(tmp_path: Path) -> None:
    import numpy as np
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    config = verl_config(tmp_path, "grpo")
    config.reward.reward_manager = {"source": "register", "name": "naive", "module": None}
    config.reward.custom_reward_function.path = "pkg://genprm.rl.verl"
    worker = RewardLoopWorker(config)

    def data(text: str) -> Any:
        made = verl_data([text])
        made.non_tensor_batch |= {
            "data_source": np.array(["d"]),
            "reward_model": np.array([{"ground_truth": "5"}], dtype=object),
            "extra_info": np.array([{"question": "What is it?"}], dtype=object),
        }
        return made

    (good,) = await worker.compute_score_batch(data(GOOD))
    assert (good["reward_score"], good["reward_extra_info"]["genprm_unknown"]) == (0.9, 0.0)
    with pytest.raises(UnknownReward):
        await worker.compute_score_batch(data(ODD))


# SkyRL


@pytest.fixture(scope="module")
def skyrl() -> None:
    """SkyRL declares Python 3.12 because of one check of pydantic, which this satisfies on 3.11."""
    import typing_extensions

    typing.TypedDict = typing_extensions.TypedDict
    from genprm.rl import skyrl as adapter

    adapter.register()
    adapter.register()


class Client:
    """An inference engine that has a text for every prompt."""

    weight_version = None

    def __init__(self, tokenizer: Any, texts: list[str]) -> None:
        self.tokenizer, self.texts = tokenizer, texts

    async def generate(self, engine_input: Any, model: Any = None) -> dict[str, Any]:
        prompts = self.tokenizer.batch_decode(engine_input["prompt_token_ids"])
        texts = [self.texts[int(prompt.split("Question ")[1][0])] for prompt in prompts]
        ids = [[*self.tokenizer.encode(text), self.tokenizer.eos_token_id] for text in texts]
        logprobs = [[0.0] * len(row) for row in ids]
        stops = ["stop"] * len(texts)
        return {
            "responses": texts,
            "response_ids": ids,
            "stop_reasons": stops,
            "response_logprobs": logprobs,
        }

    async def finish_session(self, session_id: str) -> None:
        pass


async def skyrl_output(kind: type[Any], texts: list[str], **more: Any) -> Any:
    from skyrl.train.config import GeneratorConfig, SkyRLGymConfig

    tokenizer = byte_tokenizer(TEMPLATE)
    config = GeneratorConfig(max_input_length=1000, **more)
    generator = kind(config, SkyRLGymConfig(max_env_workers=2), Client(tokenizer, texts), tokenizer)
    asked = {
        "prompts": [[{"role": "user", "content": f"Question {row}?"}] for row in range(len(texts))],
        "env_classes": ["genprm"] * len(texts),
        "env_extras": [{} for _ in texts],
        "sampling_params": None,
        "trajectory_ids": None,
        "batch_metadata": None,
    }
    return await generator.generate(asked)


@pytest.mark.usefixtures("skyrl")
async def test_skyrl_takes_rewards_per_token_and_leaves_the_unknown_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numpy as np
    import torch
    from skyrl.backends.skyrl_train.utils.ppo_utils import compute_advantages_and_returns
    from skyrl.train.utils.trainer_utils import validate_generator_output

    from genprm.rl.skyrl import step_generator

    monkeypatch.setenv("GENPRM_CREDIT", "sum")
    texts = [GOOD, BAD, ODD, DOWN]
    found = await skyrl_output(step_generator(), texts)
    validate_generator_output(len(texts), found)
    cut = GOOD.index("\n")
    assert [at for at, value in enumerate(found["rewards"][0]) if value] == [cut - 1, len(GOOD)]
    assert found["rewards"][1][-1] == 0.1
    assert math.isnan(found["rewards"][2][-1])
    assert [any(mask) for mask in found["loss_masks"]] == [True, True, False, False]
    assert found["rollout_metrics"]["environment/genprm_unknown"] == 0.5

    width = max(map(len, found["rewards"]))
    rewards = torch.tensor([row + [0.0] * (width - len(row)) for row in found["rewards"]])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in found["rewards"]])
    advantages, _ = compute_advantages_and_returns(
        token_level_rewards=rewards,
        response_mask=mask,
        index=np.array(["p"] * len(texts)),
        adv_estimator="genprm",
        config=SimpleNamespace(),
        grpo_norm_by_std=False,
    )
    mean = (0.9 * 5 + 0.1) / 6
    assert advantages[0, 0].item() == pytest.approx(1.8 - 2 * mean)
    assert not advantages[2:].any()
    assert advantages.isfinite().all()


@pytest.mark.usefixtures("skyrl")
async def test_skyrl_without_our_generator_gets_no_number_for_unknown() -> None:
    from skyrl.train.generators import SkyRLGymGenerator
    from skyrl.train.utils.trainer_utils import validate_generator_output

    found = await skyrl_output(SkyRLGymGenerator, [GOOD, BAD])
    validate_generator_output(2, found)
    assert [row[-1] for row in found["rewards"]] == [0.9, 0.1]
    for text in (ODD, DOWN):
        with pytest.raises(UnknownReward):
            await skyrl_output(SkyRLGymGenerator, [text])
