"""When the votes on a step are enough: rules that end the voting early.

The decision of N votes is whether the mean of their rewards reaches the threshold (equations 6, 7).
After some of them it may be settled already:

- `exact`: no rewards of the remaining votes could change it;
- `sequential`: the chance that they change it is at most an error bound. The remaining votes are taken
  as draws of one unknown probability with Jeffreys' prior, updated by the rewards seen so far (a reward
  r counts as r of a Yes and 1 - r of a No), which makes their total beta-binomial.

Which votes are used follows from the rewards alone, so results do not depend on scheduling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from genprm.config.models import VerifyConfig

_PRIOR = 0.5

Settled = Callable[[Sequence[float], int], bool]
"""Whether the rewards so far settle the decision, given how many votes are still to come."""


def voting_rule(options: VerifyConfig) -> Settled:
    """The rule that `options.voting` names."""
    threshold, bound = options.threshold, options.error_bound
    match options.voting:
        case "exact":
            return lambda rewards, remaining: settled_exactly(rewards, remaining, threshold)
        case "sequential":
            return lambda rewards, remaining: (
                bool(rewards) and flip_probability(rewards, remaining, threshold) <= bound
            )
        case "all":
            return lambda rewards, remaining: remaining == 0


def settled_exactly(rewards: Sequence[float], remaining: int, threshold: float) -> bool:
    """Whether no rewards in [0, 1] of `remaining` more votes could change the decision.

    A vote to come may also fail and count for nothing; that cannot change a decision settled here.
    """
    if remaining == 0:
        return True
    total, wanted = math.fsum(rewards), threshold * (len(rewards) + remaining)
    return total >= wanted or total + remaining < wanted


def flip_probability(rewards: Sequence[float], remaining: int, threshold: float) -> float:
    """The chance that `remaining` more votes change the decision of the rewards so far, in [0, 1]."""
    if remaining == 0:
        return 0.0
    total = math.fsum(rewards)
    leaning = total >= threshold * len(rewards)
    yes, no = _PRIOR + total, _PRIOR + len(rewards) - total
    wanted = threshold * (len(rewards) + remaining) - total
    final_yes = math.fsum(
        _beta_binomial(count, remaining, yes, no) for count in range(remaining + 1) if count >= wanted
    )
    return min(1.0, max(0.0, 1.0 - final_yes if leaning else final_yes))


def votes_to_ask(rewards: Sequence[float], remaining: int, settled: Settled) -> int:
    """How many more votes to start at once: the fewest that could settle the decision; 0 if it is settled.

    Starting fewer would only wait; starting more might waste what one of them settles.
    """
    if remaining == 0 or settled(rewards, remaining):
        return 0
    for count in range(1, remaining):
        if any(settled([*rewards, *[extreme] * count], remaining - count) for extreme in (0.0, 1.0)):
            return count
    return remaining


def _beta_binomial(count: int, draws: int, yes: float, no: float) -> float:
    """P(count successes in `draws`) with success probability from Beta(yes, no)."""
    log_choices = math.lgamma(draws + 1) - math.lgamma(count + 1) - math.lgamma(draws - count + 1)
    return math.exp(log_choices + _log_beta(count + yes, draws - count + no) - _log_beta(yes, no))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
