"""Group-relative advantages that know what is unknown, for trainers whose own would learn from it.

Process supervision with GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1.3). The credits of all steps of all
responses to one prompt are normalized together, and a token's advantage is the sum over the steps that end with it or
after it:

    A_(i,t) = sum over steps j of response i with end(j) >= t of (c_(i,j) - mean) / (std + 1e-6)

With one credit per response, at its last token, this is GRPO itself. Unknown credits (NaN) are in neither the mean nor
the deviation, and a token whose sum would hold one has advantage 0: nothing is learned there. So it is for a group with
fewer than two known credits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

MARK = 1e-30
"""A credit of exactly 0 in a tensor of token rewards, so that a step is seen to end there."""
_EPSILON = 1e-6


def group_advantages(
    given: Sequence[Sequence[float | None]],
    groups: Sequence[Hashable],
    *,
    by_deviation: bool = True,
) -> list[list[float | None]]:
    """The advantage of each step of each response; None where it is unknown.

    Args:
        given: credits, one per step for each response; None and NaN are unknown.
        groups: what the responses to one prompt have in common, one for each response.
        by_deviation: whether to divide by the group's standard deviation.
    """
    known: defaultdict[Hashable, list[float]] = defaultdict(list)
    for row, group in zip(given, groups, strict=True):
        known[group] += [value for value in map(_known, row) if value is not None]
    return [
        _to_go(row, known[group], by_deviation=by_deviation)
        for row, group in zip(given, groups, strict=True)
    ]


def spread(values: Sequence[float | None], ends: Sequence[int], length: int) -> list[float]:
    """One advantage per token: that of the first step that ends with it or after it, 0 where it is unknown."""
    found, step = [0.0] * length, 0
    for token in range(length):
        while step < len(ends) and ends[step] < token:
            step += 1
        if step < len(ends):
            found[token] = values[step] or 0.0
    return found


def marked(placed: Sequence[float], ends: Sequence[int]) -> list[float]:
    """Token rewards (`genprm.rl.credit.place`) in which every step's end differs from 0."""
    found = list(placed)
    for end in ends:
        found[end] = found[end] or MARK
    return found


def token_advantages(
    token_level_rewards: Any, response_mask: Any, index: Sequence[Hashable], *, by_deviation: bool = True
) -> Any:
    """A tensor of advantages from tensors of token rewards, for estimators of verl and SkyRL.

    Args:
        token_level_rewards: (B, T); a step ends where they are not 0 (`marked`), NaN is unknown.
        response_mask: (B, T); what is 0 there has advantage 0.
        index: the prompt of each response.
    """
    import torch

    length = token_level_rewards.shape[1]
    ends = [row.nonzero().flatten().tolist() for row in token_level_rewards]  # NaN is not zero
    given = [[row[end] for end in at] for row, at in zip(token_level_rewards.tolist(), ends, strict=True)]
    steps = group_advantages(given, list(index), by_deviation=by_deviation)
    rows = [spread(values, at, length) for values, at in zip(steps, ends, strict=True)]
    found = torch.tensor(rows, dtype=torch.float32, device=token_level_rewards.device).reshape(-1, length)
    return found * response_mask


def _to_go(
    row: Sequence[float | None], known: Sequence[float], *, by_deviation: bool
) -> list[float | None]:
    if len(known) < 2:
        return [None] * len(row)
    mean = math.fsum(known) / len(known)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    scale = deviation + _EPSILON if by_deviation else 1.0
    found: list[float | None] = []
    later: float | None = 0.0
    for value in reversed(row):
        number = _known(value)
        later = None if later is None or number is None else later + (number - mean) / scale
        found.append(later)
    return found[::-1]


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
