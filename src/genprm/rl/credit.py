"""Credit rules: what each step's reward adds to the return that a trainer learns from.

Steps 1 ... T have rewards r_1 ... r_T in [0, 1], each None if it is unknown. A rule turns them into credits c_1 ... c_T,
one at the end of each step; a trainer's return at step t is the sum of the credits from t on,

    G_t = c_t + gamma G_(t+1).

| rule | credits | the return of the whole response |
|---|---|---|
| `last` | c_T = r_T, all others 0 | the last step's reward: the reward of an outcome |
| `sum` | c_t = r_t | the sum of all rewards, which grows with the number of steps |
| `difference` | c_t = r_t - r_(t-1), with r_0 = `start` | r_T - start: a step is worth what it changes (progress) |
| `min` | c_t = w_t r_t, with w = softmax(-r / `temperature`) | nearly the smallest reward: the worst step takes it all |

`difference` is the potential-based shaping of Ng, Harada and Russell (1999) with the step rewards as potential, and the
process advantage of Setlur et al. (2024, arXiv 2410.08146). `min` is the min-form credit assignment of PURE (Cheng et
al. 2025, arXiv 2504.15275, equation 6).

**Unknown is masked, never 0.** A credit is None if it depends on a reward that is unknown, and a return is None if it
depends on such a credit: with `sum` and `difference` the tokens after the last unknown credit can still be learned
from, with `min` and `last` none of the response can if what they depend on is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from genprm.errors import ConfigError

CreditRule = Literal["last", "min", "difference", "sum"]
Values = tuple[float | None, ...]
"""One number per step; None where it is unknown."""


def step_credits(
    rewards: Sequence[float | None],
    rule: CreditRule = "min",
    *,
    temperature: float = 0.1,
    start: float = 0.0,
) -> Values:
    """c_1 ... c_T of the module's table.

    Args:
        rewards: r_1 ... r_T; None and what is not a number are unknown.
        temperature: of `min`; the smaller, the nearer the sum comes to the smallest reward. At 0 the first of the
            smallest rewards is the only credit.
        start: r_0 of `difference`, for example the policy's pass rate on the problem.

    Raises:
        ConfigError: an unknown rule, or a negative temperature.
    """
    known = [None if reward is None or math.isnan(reward) else float(reward) for reward in rewards]
    if rule == "last":
        return (*(0.0 for _ in known[:-1]), *known[-1:])
    if rule == "sum":
        return tuple(known)
    if rule == "difference":
        return tuple(_minus(now, before) for now, before in zip(known, [start, *known], strict=False))
    if rule != "min":
        raise ConfigError(f"no credit rule is called '{rule}'", hint=f"Take one of {get_args(CreditRule)}.")
    if not temperature >= 0:
        raise ConfigError(f"the temperature {temperature} of the credit rule 'min' is negative")
    numbers = [reward for reward in known if reward is not None]
    if len(numbers) < len(known):
        return (None,) * len(known)
    return tuple(
        weight * reward for weight, reward in zip(_weights(numbers, temperature), numbers, strict=True)
    )


def returns(given: Sequence[float | None], gamma: float = 1.0) -> Values:
    """G_1 ... G_T of credits c_1 ... c_T; None where a credit from there on is unknown."""
    found: list[float | None] = []
    later: float | None = 0.0
    for credit in reversed(given):
        later = None if credit is None or later is None else credit + gamma * later
        found.append(later)
    return tuple(reversed(found))


def place(values: Sequence[float | None], ends: Sequence[int], length: int) -> list[float]:
    """One number per token: each step's value at the token that ends it, NaN if it is unknown, 0 between.

    Values of steps that end with the same token are added up.

    Args:
        values: credits, one per step.
        ends: of `step_ends`.
        length: tokens of the response.
    """
    placed = [0.0] * length
    for value, end in zip(values, ends, strict=True):
        placed[end] += math.nan if value is None else value
    return placed


def learnable(values: Sequence[float | None], ends: Sequence[int], length: int) -> list[bool]:
    """For each token whether the return from there on is known; a mask for the loss.

    A token belongs to the first step that ends with it or after it. Without steps no token is learnable.

    Args:
        values, ends, length: see `place`.
    """
    known = [value is not None for value in returns(values)]
    mask, step = [False] * length, 0
    for token in range(length):
        while step < len(ends) and ends[step] < token:
            step += 1
        mask[token] = step < len(ends) and known[step]
    return mask


def _minus(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _weights(rewards: Sequence[float], temperature: float) -> list[float]:
    lowest = min(rewards, default=0.0)
    if temperature == 0:
        first = rewards.index(lowest) if rewards else 0
        return [float(index == first) for index in range(len(rewards))]
    raw = [math.exp((lowest - reward) / temperature) for reward in rewards]
    total = math.fsum(raw)
    return [weight / total for weight in raw]
