"""slime: reward, group normalization and advantages by path. Read in slime 0.3.1 (commit 624b824).

    --custom-rm-path genprm.rl.slime.reward
    --custom-reward-post-process-path genprm.rl.slime.post_process
    --custom-advantage-function-path genprm.rl.slime.advantages        (for step rewards)

- `reward(args, sample)` is awaited for one sample, or for a list of them (`slime/rollout/rm_hub/__init__.py`). The server
  is `--rm-url` if it is given, else `GENPRM_URL`.
- `post_process(args, samples)` replaces the group normalization (`slime/ray/rollout.py`), whose mean would hold samples
  that `remove_sample` takes out of the loss. It gives one advantage per response, or, with the third flag, one per
  token.
- `advantages(args, rollout_data)` hands these on (`slime/backends/megatron_utils/loss.py`).

Unknown: `sample.reward` is None and `sample.remove_sample` True, so that the loss mask is 0. slime's own normalization
stops at None; `post_process` leaves it out of its group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from genprm.rl import settings
from genprm.rl.advantages import group_advantages, spread
from genprm.rl.credit import step_credits
from genprm.rl.scorer import Scored
from genprm.rl.tokens import decoder, step_ends, token_ends
from genprm.serve.dialects.rendered import plain, question_of

_KEY = "genprm"


async def reward(args: Any, sample: Any, **_: Any) -> Any:
    """The reward of a sample, or of each of a list of samples: a number, None, or with `--reward-key` a dict.

    `sample.metadata["genprm"]` holds the steps' rewards and the tokens that end them, for `post_process`.
    """
    samples = sample if isinstance(sample, list) else [sample]
    scorer = settings.scorer(getattr(args, "rm_url", None))
    steps = bool(args.custom_advantage_function_path)
    texts = [_response(args, one) if steps else plain(one.response) for one in samples]
    pairs = [(question_of(one.prompt), text) for one, text in zip(samples, texts, strict=True)]
    found = await scorer.score_many(pairs)
    for one, scored in zip(samples, found, strict=True):
        _note(args, one, scored, steps=steps)
    rewards = [{args.reward_key: scored.score} if args.reward_key else scored.score for scored in found]
    return rewards if isinstance(sample, list) else rewards[0]


def post_process(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[Any]]:
    """Rewards for the logs (NaN is unknown), and advantages within groups: one per sample, or a tensor of one per
    token.

    Advantages are divided by the group's deviation unless `--disable-grpo-std-normalization` is given.
    """
    raw = [one.get_reward_value(args) for one in samples]
    known = [math.nan if value is None else float(value) for value in raw]
    groups = [one.group_index for one in samples]
    by_deviation = bool(args.grpo_std_normalization)
    if not args.custom_advantage_function_path:
        alone = group_advantages([[value] for value in known], groups, by_deviation=by_deviation)
        return known, [values[0] or 0.0 for values in alone]
    import torch

    notes = [(one.metadata or {}).get(_KEY, {"rewards": [], "ends": []}) for one in samples]
    rule = settings.credit_rule()
    steps = group_advantages(
        [step_credits(note["rewards"], rule) for note in notes], groups, by_deviation=by_deviation
    )
    rows = [
        torch.tensor(spread(values, note["ends"], one.response_length))
        for values, note, one in zip(steps, notes, samples, strict=True)
    ]
    return known, rows


def advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Put the tokens' advantages where slime's trainer looks for them, cut as its context parallelism cuts them."""
    from slime.backends.megatron_utils.cp_utils import slice_log_prob_with_cp

    lengths = zip(rollout_data["total_lengths"], rollout_data["response_lengths"], strict=True)
    found = [
        slice_log_prob_with_cp(row, total, response).to(kl.device)
        for row, (total, response), kl in zip(
            rollout_data["rewards"], lengths, rollout_data["kl"], strict=True
        )
    ]
    rollout_data["advantages"] = found
    rollout_data["returns"] = [row.clone() for row in found]


def _note(args: Any, sample: Any, scored: Scored, *, steps: bool) -> None:
    sample.remove_sample = sample.remove_sample or scored.unknown is not None
    ends: tuple[int, ...] = ()
    if steps and scored.spans:
        ends = step_ends(token_ends(_tokenizer(args.hf_checkpoint), _ids(sample)), scored.spans)
    note = {"rewards": list(scored.rewards) if ends else [], "ends": list(ends), "unknown": scored.unknown}
    sample.metadata = {**(sample.metadata or {}), _KEY: note}


def _response(args: Any, sample: Any) -> str:
    """What the response's tokens decode to, so that steps and tokens are of one text."""
    return decoder(_tokenizer(args.hf_checkpoint))(_ids(sample))


def _ids(sample: Any) -> list[int]:
    return list(sample.tokens[len(sample.tokens) - sample.response_length :])


@cache
def _tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
