"""ROLL: a reward worker and a rollout loop by path. Read at commit 8eb27cc (after v0.3.0).

    rewards:
      math: {worker_cls: genprm.rl.roll.GenPRMRewardWorker, ...}
    user_defined_rollout_loop_cls: genprm.rl.roll.GenPRMRolloutLoop

ROLL's scheduler calls `compute_rewards(data)` of the worker for each response (`roll/distributed/scheduler/`) and wants a
`DataProto` with `token_level_rewards` (B, T), `response_level_rewards` (B,) and `scores` (B,); the problem is read from
the decoded prompt. The RLVR pipeline puts the response's reward at its last token and renames `token_level_rewards` to
`token_level_scores` (`roll/utils/functionals.py`, `compute_token_reward`): the steps' credits are there for a pipeline
that uses them.

Unknown: `response_level_rewards` is NaN, and the loop drops the prompt with all its responses, because ROLL's group
normalization takes no fewer than `num_return_sequences`. Without the loop NaN would reach the loss, so a worker refuses
to work in a pipeline that has another.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from genprm.errors import ConfigError
from genprm.rl import settings
from genprm.rl.credit import place, step_credits
from genprm.rl.scorer import Scored
from genprm.rl.tokens import decoder, step_ends, token_ends
from genprm.serve.dialects.rendered import question_of

LOOP = "genprm.rl.roll.GenPRMRolloutLoop"


def check_loop(pipeline_config: Any) -> None:
    """Whether unknown rewards will be dropped.

    Raises:
        ConfigError: the pipeline has another rollout loop.
    """
    if pipeline_config.user_defined_rollout_loop_cls != LOOP:
        raise ConfigError(
            "ROLL's rollout loop would train on responses without a score",
            hint=f"Set user_defined_rollout_loop_cls: {LOOP}.",
        )


def rewards(data: Any, tokenizer: Any) -> dict[str, Any]:
    """The tensors of a worker's answer.

    Args:
        data: ROLL's, with `prompts`, `responses` and `response_mask` or `attention_mask` in its batch.
        tokenizer: of the policy.
    """
    import torch

    batch = data.batch
    prompts = [
        question_of(text) for text in tokenizer.batch_decode(batch["prompts"], skip_special_tokens=False)
    ]
    width = batch["responses"].shape[-1]
    lengths = batch["attention_mask"][:, -width:].sum(-1).tolist()
    ids = [row[:length] for row, length in zip(batch["responses"].tolist(), lengths, strict=True)]
    decode = decoder(tokenizer)
    found = settings.scorer().score_many_sync(list(zip(prompts, map(decode, ids), strict=True)))
    placed = [_placed(scored, row, tokenizer, width) for scored, row in zip(found, ids, strict=True)]
    scores = torch.tensor([math.nan if one.score is None else one.score for one in found])
    return {
        "token_level_rewards": torch.tensor(placed),
        "response_level_rewards": scores,
        "scores": scores.clone(),
    }


def keep(responses: Any) -> Any:
    """A prompt's responses, or None, with which ROLL drops it, if one of them has no score."""
    if responses is None:
        return None
    unknown = any(bool(one.batch["response_level_rewards"].isnan().any()) for one in responses)
    return None if unknown else responses


def _placed(found: Scored, ids: list[int], tokenizer: Any, width: int) -> list[float]:
    if not found.steps:
        return [math.nan] * width
    ends = step_ends(token_ends(tokenizer, ids), found.spans)
    return place(step_credits(found.rewards, settings.credit_rule()), ends, width)


@cache
def _classes() -> dict[str, type[Any]]:
    """The classes that ROLL finds by path."""
    from roll.distributed.executor.worker import Worker
    from roll.distributed.scheduler.decorator import Dispatch, register
    from roll.distributed.scheduler.protocol import DataProto
    from roll.distributed.scheduler.user_defined_rollout_loop import UserDefinedRolloutLoop
    from roll.models.model_providers import default_tokenizer_provider

    class GenPRMRewardWorker(Worker):  # type: ignore[misc]
        """Asks the process's scorer."""

        def __init__(self, worker_config: Any) -> None:
            super().__init__(worker_config=worker_config)
            self.rank_info.dp_rank, self.rank_info.dp_size = self.rank_info.rank, self.rank_info.world_size
            self.tokenizer = default_tokenizer_provider(model_args=worker_config.model_args)

        @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[untyped-decorator]
        def initialize(self, pipeline_config: Any) -> None:
            """Refuse a pipeline that would train on unknown rewards."""
            check_loop(pipeline_config)

        @register(dispatch_mode=Dispatch.DP_MP_COMPUTE, clear_cache=False)  # type: ignore[untyped-decorator]
        def compute_rewards(self, data: Any) -> Any:
            """See `rewards`."""
            return DataProto.from_dict(tensors=rewards(data, self.tokenizer))

    class GenPRMRolloutLoop(UserDefinedRolloutLoop):  # type: ignore[misc]
        """Drops prompts that have a response without a score."""

        async def process_new_prompt(self, context: Any) -> Any:
            """The prompt's responses, or None; a validation keeps all."""
            responses = await super().process_new_prompt(context)
            return responses if context.is_val else keep(responses)

    return {made.__name__: made for made in (GenPRMRewardWorker, GenPRMRolloutLoop)}


def __getattr__(name: str) -> Any:
    if name in ("GenPRMRewardWorker", "GenPRMRolloutLoop"):
        return _classes()[name]
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
