"""Adapters as their trainers call them, by calls that the trainers' sources show; and no failure becomes a number.

The trainers' real classes are in `test_rl_integrations.py` and `test_rl_trl.py`.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from genprm import ConfigError, DataError, Scorer, UnknownReward
from genprm.rl import its_hub, roll, search_and_learn, slime, swift, trl, verl
from rl.conftest import BAD, DOWN, GOOD, ODD
from training.tiny_tokenizers import byte_tokenizer

CHAT = [{"role": "system", "content": "s"}, {"role": "user", "content": "What is it?"}]
pytestmark = pytest.mark.usefixtures("scorer")


# TRL 1.16


async def trl_rewards(texts: list[str], *, chat: bool = False, **columns: Any) -> tuple[Any, dict, dict]:
    extra: dict[str, list] = {}
    metrics: dict[str, float] = {}
    completions = [
        [{"role": "assistant", "content": text}] if chat else f"{text}<|im_end|>" for text in texts
    ]
    found = await trl.GenPRMReward(question="q" if "q" in columns else None)(
        prompts=[CHAT if chat else "<|im_start|>user\nWhat is it?<|im_end|>\n"] * len(texts),
        completions=completions,
        completion_ids=[[1]] * len(texts),
        trainer_state=None,
        log_extra=extra.__setitem__,
        log_metric=metrics.__setitem__,
        **columns,
    )
    return found, extra, metrics


@pytest.mark.parametrize("chat", [True, False])
async def test_trl_gets_none_for_unknown_and_logs_why(chat: bool) -> None:
    found, extra, metrics = await trl_rewards([GOOD, BAD, ODD, DOWN], chat=chat)
    assert found == [0.9, 0.1, None, None]
    assert extra["genprm_steps"] == ["[0.9, 0.9]", "[0.9, 0.1]", "[0.9, null]", "[0.9, null]"]
    assert extra["genprm_unknown"] == ["", "", "unparsed", "engine_failed"]
    assert metrics == {
        "genprm/unknown": 0.5,
        "genprm/unknown/engine_failed": 0.25,
        "genprm/unknown/unparsed": 0.25,
    }


async def test_trl_takes_the_problem_from_a_column() -> None:
    found, _, metrics = await trl_rewards([GOOD], q=["What?"])
    assert found == [0.9]
    assert metrics == {"genprm/unknown": 0.0}


# verl 0.9.1 (the reward function; the manager is among the integrations)


async def verl_score(text: str, **more: Any) -> dict[str, Any]:
    extra = {"question": "What is it?", "num_turns": None}
    given = {"data_source": "d", "solution_str": text, "ground_truth": "5", "extra_info": extra, **more}
    return await verl.compute_score(**given)


async def test_verl_gets_the_same_keys_for_every_response() -> None:
    good = await verl_score(GOOD)
    odd = await verl_score(ODD, unknown=0.5)
    assert good == {"score": 0.9, "genprm_unknown": 0.0, "genprm_reason": "", "genprm_steps": "[0.9, 0.9]"}
    assert odd == {
        "score": 0.5,
        "genprm_unknown": 1.0,
        "genprm_reason": "unparsed",
        "genprm_steps": "[0.9, null]",
    }


@pytest.mark.parametrize("text", [ODD, DOWN, ""])
async def test_verl_gets_no_number_for_unknown(text: str) -> None:
    with pytest.raises(UnknownReward):
        await verl_score(text)


async def test_verl_without_a_question_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="question"):
        await verl_score(GOOD, extra_info={})


# slime 0.3.1


def slime_args(**more: Any) -> SimpleNamespace:
    given = {
        "rm_url": None,
        "reward_key": None,
        "custom_advantage_function_path": None,
        "grpo_std_normalization": False,
        "hf_checkpoint": "none",
    }
    return SimpleNamespace(**{**given, **more})


def slime_sample(text: str, group: int, tokens: list[int]) -> SimpleNamespace:
    made = SimpleNamespace(
        prompt=CHAT,
        response=text,
        tokens=[7, 7, *tokens],
        response_length=len(tokens),
        reward=None,
        group_index=group,
        metadata={"kept": 1},
        remove_sample=False,
    )
    made.get_reward_value = lambda args: made.reward[args.reward_key] if args.reward_key else made.reward
    return made


async def slime_batch(args: SimpleNamespace, texts: list[str]) -> list[SimpleNamespace]:
    tokenizer = byte_tokenizer("")
    samples = [slime_sample(text, 0, tokenizer.encode(text)) for text in texts]
    for sample in samples:
        sample.reward = await slime.reward(args, sample)
    return samples


async def test_slime_leaves_the_unknown_out_of_its_group() -> None:
    args = slime_args()
    samples = await slime_batch(args, [GOOD, BAD, ODD, DOWN])
    assert [one.reward for one in samples] == [0.9, 0.1, None, None]
    assert [one.remove_sample for one in samples] == [False, False, True, True]
    assert samples[2].metadata["kept"] == 1
    assert samples[2].metadata["genprm"]["unknown"] == "unparsed"
    raw, found = slime.post_process(args, samples)
    assert raw[:2] == [0.9, 0.1]
    assert all(map(math.isnan, raw[2:]))
    assert found == pytest.approx([0.4, -0.4, 0.0, 0.0])
    together = await slime.reward(args, samples)
    assert together == [0.9, 0.1, None, None]
    keyed = slime_args(reward_key="reward")
    assert await slime.reward(keyed, samples[0]) == {"reward": 0.9}


async def test_slime_gives_steps_their_own_advantages(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_tokenizer("")
    monkeypatch.setattr(slime, "_tokenizer", lambda folder: tokenizer)
    monkeypatch.setenv("GENPRM_CREDIT", "sum")
    args = slime_args(custom_advantage_function_path="genprm.rl.slime.advantages")
    samples = await slime_batch(args, [GOOD, BAD, ODD])
    _, rows = slime.post_process(args, samples)
    assert [len(row) for row in rows] == [one.response_length for one in samples]
    mean = (0.9 * 4 + 0.1) / 5  # of the known steps: two good ones, a good and a bad one, a good one
    cut = GOOD.index("\n")
    assert rows[0][:cut].tolist() == pytest.approx([1.8 - 2 * mean] * cut)
    assert rows[0][cut:].tolist() == pytest.approx([0.9 - mean] * (len(rows[0]) - cut))
    assert rows[1][-1].item() == pytest.approx(0.1 - mean)
    assert not rows[2].any()


# ROLL


class Batch(dict):
    """The part of ROLL's tensors that the worker reads."""


def roll_data(tokenizer: Any, texts: list[str]) -> SimpleNamespace:
    import torch

    ids = [tokenizer.encode(text) for text in texts]
    prompt = tokenizer.encode("<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n")
    width = max(map(len, ids)) + 3
    rows = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids]
    masks = [[1] * len(prompt) + [1] * len(row) + [0] * (width - len(row)) for row in ids]
    return SimpleNamespace(
        batch=Batch(
            prompts=torch.tensor([prompt] * len(texts)),
            responses=torch.tensor(rows),
            attention_mask=torch.tensor(masks),
        )
    )


def test_roll_gets_rewards_at_tokens_and_drops_prompts_with_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GENPRM_CREDIT", "sum")
    found = roll.rewards(roll_data(byte_tokenizer(""), [GOOD, BAD, ODD]), byte_tokenizer(""))
    assert found["response_level_rewards"].tolist()[:2] == pytest.approx([0.9, 0.1])
    assert found["response_level_rewards"].isnan().tolist() == [False, False, True]
    tokens = found["token_level_rewards"]
    assert tokens[0, GOOD.index("\n") - 1].item() == pytest.approx(0.9)
    assert tokens[1, len(BAD) - 1].item() == pytest.approx(0.1)
    assert tokens[2, len(ODD) - 1].isnan()
    rows = [
        SimpleNamespace(batch={"response_level_rewards": found["response_level_rewards"][[row]]})
        for row in range(3)
    ]
    assert roll.keep(rows[:2]) == rows[:2]
    assert roll.keep(rows) is None
    assert roll.keep(None) is None


def test_roll_refuses_a_loop_that_would_keep_the_unknown() -> None:
    roll.check_loop(SimpleNamespace(user_defined_rollout_loop_cls=roll.LOOP))
    with pytest.raises(ConfigError, match="rollout loop"):
        roll.check_loop(SimpleNamespace(user_defined_rollout_loop_cls="roll.Other"))


# ms-swift 4.6


async def test_swift_gets_numbers_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"messages": [CHAT, CHAT], "solution": ["5", "5"], "trainer_state": None}
    assert swift.GenPRMORM(args=None)([GOOD, BAD], **columns) == [0.9, 0.1]
    assert await swift.GenPRMAsyncORM(args=None)([GOOD, BAD], **columns) == [0.9, 0.1]
    requests = [
        SimpleNamespace(messages=[*CHAT, {"role": "assistant", "content": GOOD}]),
        {"messages": [*CHAT, {"role": "assistant", "content": BAD}]},
    ]
    prm = swift.GenPRM()
    assert prm(requests, request_config=None, ground_truths=["5", "5"]) == [[0.9, 0.9], [0.9, 0.1]]
    for text in (ODD, DOWN):
        with pytest.raises(UnknownReward):
            swift.GenPRMORM()([GOOD, text], **columns)
        with pytest.raises(UnknownReward):
            await swift.GenPRMAsyncORM()([GOOD, text], **columns)
        with pytest.raises(UnknownReward):
            prm([{"messages": [*CHAT, {"role": "assistant", "content": text}]}])
    monkeypatch.setenv("GENPRM_UNKNOWN", "0.25")
    assert swift.GenPRMORM()([GOOD, ODD], **columns) == [0.9, 0.25]
    assert prm([{"messages": [*CHAT, {"role": "assistant", "content": ODD}]}]) == [[0.25]]


# its_hub 1.2 (its algorithms are among the integrations)


async def test_its_hub_never_chooses_the_unknown(scorer: Scorer) -> None:
    chats = [[*CHAT, {"role": "assistant", "content": text}] for text in (BAD, ODD, GOOD)]
    outcome = its_hub.GenPRMOutcome(scorer)
    assert await outcome.ascore(chats, orchestrator=None) == [0.1, -math.inf, 0.9]
    assert outcome.score(chats[0]) == 0.1
    process = its_hub.GenPRMProcess(scorer)
    assert process.score("What is it?", [GOOD, DOWN]) == [0.9, -math.inf]
    assert await process.step_rewards(CHAT, ["a good one", "an odd one"]) == [0.9, None]
    assert its_hub.GenPRMProcess(scorer, unknown=0.0).score(CHAT, [GOOD, ODD]) == [0.9, 0.0]
    with pytest.raises(UnknownReward):
        process.score("What is it?", [ODD, DOWN])
    assert process.score("What is it?", []) == []


# search-and-learn


def test_search_and_learn_never_chooses_the_unknown(scorer: Scorer) -> None:
    found = search_and_learn.GenPRM(scorer).score(["p", "q"], [[GOOD, ODD], [BAD]])
    assert found == [[[0.9, 0.9], [-math.inf]], [[0.9, 0.1]]]
    for aggregate in (min, math.prod, lambda scores: scores[-1]):
        assert aggregate(found[0][1]) < aggregate(found[0][0])


# All


async def test_a_prompt_without_a_problem_is_a_mistake_and_no_unknown() -> None:
    with pytest.raises(DataError):
        await trl.GenPRMReward()(prompts=[[{"role": "system", "content": "s"}]], completions=[GOOD])
    with pytest.raises(DataError):
        swift.GenPRMORM()([GOOD], messages=[[]])
