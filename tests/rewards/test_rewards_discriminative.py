"""A discriminative reward beyond the contract: what is unknown and why, which models it takes, who it is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from reward_kinds import ClassifierByHeart

from genprm.config import EngineConfig, VerifyConfig
from genprm.errors import ConfigError, EngineError
from genprm.records import VerifyItem, Vote, VoteStatus
from genprm.rewards import judge_all
from genprm.rewards.discriminative.classifier import StepProbabilities
from genprm.rewards.discriminative.reward import DiscriminativeReward
from genprm.rewards.table import check_judge, is_reward, judge_identity, make_reward
from tiny_prm import CONTEXT, tiny_prm

ITEM = VerifyItem(id="one", problem="p", steps=("a", "b", "c"))


class Says(ClassifierByHeart):
    """Answers with what it was given."""

    def __init__(self, *values: float | None, reason: str | None = None) -> None:
        self.found = StepProbabilities(values, reason, 7)

    async def classify(self, problem: str, steps: Any) -> StepProbabilities:
        return self.found


async def test_what_is_no_number_is_unknown_and_the_rest_stands() -> None:
    reward = DiscriminativeReward(Says(0.9, math.nan, None, reason="too long"))
    (row,) = await judge_all(reward, [ITEM])
    assert [verdict.status for verdict in row.verdicts] == ["ok", "unparsed", "unparsed"]
    assert [verdict.reason for verdict in row.verdicts[1:]] == [
        "the model's output is not a probability: nan",
        "too long",
    ]
    assert row.first_error is None and row.score.mean is None and row.components == ""
    assert row.verdicts[0].votes == (Vote(reward=0.9, judgement=True),)
    assert (row.usage.prompt_tokens, row.usage.completion_tokens) == (7, 0)


@pytest.mark.parametrize(
    ("threshold", "judgements"), [(0.5, [True, True, False]), (0.7, [True, False, False])]
)
async def test_the_threshold_decides(threshold: float, judgements: list[bool]) -> None:
    reward = DiscriminativeReward(Says(0.9, 0.5, 0.1), threshold=threshold)
    (row,) = await judge_all(reward, [ITEM])
    assert [verdict.judgement for verdict in row.verdicts] == judgements
    assert reward.facts().critiques is False and reward.facts().threshold == threshold


async def test_steps_beyond_the_context_are_unknown_and_those_before_it_are_not() -> None:
    pytest.importorskip("torch")
    steps = tuple(f"Step {n}: " + "1 + 1 = 2 " * 12 for n in range(1, 5))
    async with DiscriminativeReward(tiny_prm(), device="cpu", dtype="float64") as reward:
        whole, short = await judge_all(
            reward,
            [
                VerifyItem(id="whole", problem="p", steps=steps),
                VerifyItem(id="short", problem="p", steps=steps[:1]),
            ],
        )
        (huge,) = await judge_all(reward, [VerifyItem(id="huge", problem="p " * 300, steps=("a",))])
    known = [verdict.status for verdict in whole.verdicts].count("ok")
    assert 0 < known < 4
    assert whole.verdicts[0] == short.verdicts[0]
    assert all(f"the model reads {CONTEXT}" in (v.reason or "") for v in whole.verdicts[known:])
    assert whole.usage.prompt_tokens <= CONTEXT
    assert [verdict.status for verdict in huge.verdicts] == ["unparsed"] and huge.usage.prompt_tokens == 0


async def test_solutions_in_one_pass_get_the_rewards_that_they_get_alone() -> None:
    pytest.importorskip("torch")
    items = [
        VerifyItem(
            id=str(n), problem="p" * (n + 1), steps=tuple(f"{n} + {k} = {n + k}" for k in range(1 + n % 3))
        )
        for n in range(9)
    ]
    rewards = []
    for batch_tokens in (1, 10_000):
        options: dict[str, Any] = {"device": "cpu", "dtype": "float64", "batch_tokens": batch_tokens}
        async with DiscriminativeReward(tiny_prm(), **options) as reward:
            rows = await judge_all(reward, items)
        rewards.append([[verdict.reward for verdict in row.verdicts] for row in rows])
    assert rewards[0] == rewards[1] and len({value for row in rewards[0] for value in row}) > 9


async def test_a_model_that_does_not_say_its_layout_needs_one() -> None:
    pytest.importorskip("torch")
    model = tiny_prm(says_layout=False)
    with pytest.raises(ConfigError, match="does not say how its steps are separated"):
        await DiscriminativeReward(model, device="cpu").check()
    async with DiscriminativeReward(model, device="cpu", separator="\n", after_problem="") as reward:
        (row,) = await judge_all(reward, [ITEM])
    assert {verdict.status for verdict in row.verdicts} == {"ok"}
    async with DiscriminativeReward(
        model, device="cpu", separator="\n", after_problem="", right_label=0
    ) as turned:
        (other,) = await judge_all(turned, [ITEM])
    for one, two in zip(row.verdicts, other.verdicts, strict=True):
        assert one.reward is not None and two.reward is not None
        assert one.reward + two.reward == pytest.approx(1, abs=1e-5)


async def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(ConfigError, match="is not a token-classification model but LlamaForCausalLM"):
        await DiscriminativeReward("builtin:base", separator="\n", after_problem="").check()
    with pytest.raises(EngineError, match="cannot load"):
        await DiscriminativeReward(str(tmp_path)).check()


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
async def test_a_solution_beyond_the_memory_of_a_cpu_costs_no_other_one(
    monkeypatch: pytest.MonkeyPatch, batch_tokens: int
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaForTokenClassification

    forward = LlamaForTokenClassification.forward

    def small(self: Any, input_ids: Any, **options: Any) -> Any:
        if input_ids.shape[1] > 100:
            torch.empty(1 << 50)  # what the allocator raises on a CPU is a plain RuntimeError
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(LlamaForTokenClassification, "forward", small)
    items = [VerifyItem(id=str(n), problem="p", steps=("a " * (150 if n == 3 else 2),)) for n in range(6)]
    async with DiscriminativeReward(tiny_prm(), device="cpu", batch_tokens=batch_tokens) as reward:
        rows = {row.item_id: row for row in await judge_all(reward, items)}
    assert [rows[str(n)].verdicts[0].status for n in range(6)] == ["ok"] * 3 + ["failed"] + ["ok"] * 2
    (vote,) = rows["3"].verdicts[0].votes
    assert vote.status is VoteStatus.ENGINE_FAILED
    assert "fails on a solution of" in (vote.reason or "") and "allocate memory" in (vote.reason or "")


# ---------------------------------------------------------------- in a config


def named(**options: Any) -> EngineConfig:
    return EngineConfig(kind="discriminative", options=options)


@pytest.mark.parametrize(
    ("config", "verify", "says"),
    [
        (named(), {}, "needs the option 'model'"),
        (named(model="m", devise="cpu"), {}, "has no option 'devise'"),
        (named(model="m", threshold=0.3), {}, "has no option 'threshold'"),
        (named(model="m"), {"votes": 2}, "2 votes make no sense"),
        (EngineConfig(kind="discriminator"), {}, "unknown engine kind"),
        (named(model="m", separator="\n"), {}, "without the other"),
    ],
)
def test_a_config_that_cannot_be_followed_is_one_error(
    config: EngineConfig, verify: dict[str, Any], says: str
) -> None:
    options = VerifyConfig(**verify)
    with pytest.raises(ConfigError, match=says):
        check_judge(config, options)
        make_reward(config, options, 4)


def test_a_reward_is_known_by_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    first = judge_identity(named(model=str(folder)))
    assert is_reward(named(model="m")) and not is_reward(EngineConfig())
    assert judge_identity(named(model=str(folder), batch_tokens=5)) == first
    assert judge_identity(named(model=str(folder), dtype="float64")) != first
    (folder / "config.json").write_text(json.dumps({"genprm_prm": {"separator": "\n"}}))
    assert judge_identity(named(model=str(folder))) != first


def test_a_vote_of_a_fault_has_its_status() -> None:
    from genprm.errors import EngineTimeout, SandboxDied
    from genprm.rewards.faults import fault_vote

    assert fault_vote(EngineTimeout("slow")).status is VoteStatus.ENGINE_FAILED
    assert fault_vote(SandboxDied("gone")).status is VoteStatus.SANDBOX_FAILED
    assert fault_vote(EngineTimeout("slow")).retryable
