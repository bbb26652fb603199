"""verl: a reward function, a reward manager, and an advantage estimator. Read in verl 0.9.1.

- `compute_score` is for `reward.custom_reward_function`: verl calls it for one response at a time with `data_source`,
  `solution_str`, `ground_truth`, `extra_info`, and what the config's `reward_kwargs` holds
  (`verl/experimental/reward_loop/reward_manager/naive.py`). It can read the problem from `extra_info["question"]` alone.
- `GenPRMRewardManager` is for `reward.reward_manager` with `source: importlib`. It reads the problem from `raw_prompt`,
  needs no other column, and has the response's own tokens, so that its step rewards stand at the tokens that end the
  steps.
- The estimator `genprm` (`algorithm.adv_estimator`) is `genprm.rl.advantages`. verl knows it once it has imported this
  module, as it does to find the manager.

verl's agent loop keeps one float per response (`AgentLoopOutput.reward_score`), so rewards that are computed while others
are generated arrive as scores of whole responses, with the step rewards as JSON in `reward_extra_info`. Where verl
scores a whole batch (`RewardLoopManager.compute_rm_score`), `assemble_rm_scores` gives every step its own.

Unknown: verl has no word for it, and its estimators learn from every number, so `compute_score` raises: verl's trainer
drops the prompt's group (`rollout_failure/evicted_samples`). With the manager and `algorithm.adv_estimator: genprm` it is
NaN, which that estimator leaves out; with any other estimator the manager raises too.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from genprm.errors import ConfigError
from genprm.rl import settings
from genprm.rl.advantages import MARK, marked, token_advantages
from genprm.rl.credit import place, step_credits
from genprm.rl.scorer import Scored
from genprm.rl.tokens import decoder, step_ends, token_ends
from genprm.serve.dialects.rendered import plain, question_of

ESTIMATOR = "genprm"


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    *,
    url: str | None = None,
    unknown: float | None = None,
    **_: Any,
) -> dict[str, Any]:
    """The score of one response, with the step rewards as JSON; the same keys for every response.

    Args:
        data_source, solution_str, ground_truth, extra_info: as verl calls it; `extra_info["question"]` is the problem.
        url: of the reward server, instead of `GENPRM_URL`.
        unknown: what a response without a score gets, instead of `GENPRM_UNKNOWN`; `genprm_unknown` is 1 for it.

    Raises:
        ConfigError: `extra_info` has no question.
        UnknownReward: there is no score, and no number was given for that.
    """
    question = (extra_info or {}).get("question")
    if not isinstance(question, str) or not question.strip():
        raise ConfigError(
            "verl's extra_info has no 'question'",
            hint="Let the data preparation put the problem there, or take the reward manager, which reads raw_prompt.",
        )
    found = await settings.scorer(url).score(question, plain(solution_str))
    number = found.number(settings.unknown_number() if unknown is None else unknown)
    return {"score": number, **_extra(found)}


class GenPRMRewardManager:
    """A reward manager that verl makes in its reward workers.

    Args:
        config: verl's whole config. `reward.genprm.url` names the server, instead of `GENPRM_URL`.
        tokenizer: of the policy.
        compute_score, reward_router_address, reward_model_tokenizer: what verl gives every manager; not needed.
    """

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        self._url = (config.reward.get("genprm") or {}).get("url")
        self._masks = config.algorithm.adv_estimator == ESTIMATOR
        self._tokenizer = tokenizer

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of a batch's last response.

        Raises:
            UnknownReward: there is no score, and the advantage estimator is not `genprm`.
        """
        item = data[-1:][0]
        ids = _valid(item.batch["responses"], item.batch["attention_mask"])
        question = question_of(list(item.non_tensor_batch["raw_prompt"]))
        found = await settings.scorer(self._url).score(question, decoder(self._tokenizer)(ids))
        unknown = settings.unknown_number()
        number = found.number(math.nan if unknown is None and self._masks else unknown)
        if self._masks:
            number = number or MARK  # that there is a reward must be seen in a tensor of zeros
        ends = step_ends(token_ends(self._tokenizer, ids), found.spans)
        score = StepScore(number, self._placed(found, ends, len(ids), number))
        return {"reward_score": score, "reward_extra_info": _extra(found)}

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: Sequence[StepScore]) -> Any:
        """A tensor (B, T) of what stands at each response token; padding has 0."""
        import torch

        found = torch.zeros_like(data.batch["responses"], dtype=torch.float32)
        for row, score in zip(found, scores, strict=True):
            row[: len(score.tokens)] = torch.tensor(score.tokens)
        return found

    def _placed(self, found: Scored, ends: Sequence[int], length: int, number: float) -> list[float]:
        """Credits at the tokens that end steps; the score at the last token for estimators that know no steps."""
        if not self._masks or not ends:
            return [0.0] * (length - 1) + [number]
        placed = place(step_credits(found.rewards, settings.credit_rule()), ends, length)
        return marked(placed, ends)


class StepScore(float):
    """A response's score that carries what its tokens get; to whoever wants a number it is one."""

    tokens: list[float]

    def __new__(cls, score: float, tokens: list[float]) -> StepScore:
        """A score and one number per token of the response."""
        made = super().__new__(cls, score)
        made.tokens = tokens
        return made

    def __reduce__(self) -> tuple[type[StepScore], tuple[float, list[float]]]:
        return StepScore, (float(self), self.tokens)


def advantages(
    token_level_rewards: Any, response_mask: Any, index: Any, config: Any = None, **_: Any
) -> tuple[Any, Any]:
    """The estimator `genprm`: advantages and returns, equal tensors (B, T). See `genprm.rl.advantages`.

    A KL penalty in the reward would hide where steps end: set `algorithm.use_kl_in_reward: false`, and
    `actor_rollout_ref.actor.use_kl_loss: true` for a penalty in the loss.
    """
    by_deviation = config is None or config.get("norm_adv_by_std_in_grpo", True)
    found = token_advantages(token_level_rewards, response_mask, index, by_deviation=by_deviation)
    return found, found


def _extra(found: Scored) -> dict[str, Any]:
    """What verl logs beside the score: numbers and texts of one shape for every response."""
    return {
        "genprm_unknown": float(found.unknown is not None),
        "genprm_reason": found.unknown or "",
        "genprm_steps": json.dumps(found.rewards),
    }


def _valid(responses: Any, attention_mask: Any) -> list[int]:
    """The ids of a response without its padding."""
    length = int(attention_mask[-responses.shape[-1] :].sum())
    ids: list[int] = responses[:length].tolist()
    return ids


if "verl" in sys.modules:
    from verl.trainer.ppo.core_algos import register_adv_est

    register_adv_est(ESTIMATOR)(advantages)
