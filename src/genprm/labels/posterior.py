"""How likely one Monte-Carlo value is below a share of another, given the counts of both.

A state's true value has the Beta posterior with the Jeffreys prior: Beta(correct + 1/2, total - correct + 1/2). With X
the value before a step and Y the one after it, the chance that P_t = Y / X is below a ratio r is

    P(Y < r X) = integral of f_X(x) F_Y(r x) dx over [0, 1].

With x = sin^2(t) the densities lose their singularities at 0 and 1 and are about equally wide everywhere, so that
Gauss-Legendre nodes on the part that has mass are accurate to about 1e-8.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray: TypeAlias = npt.NDArray[np.float64]

Counts: TypeAlias = tuple[int, int]
"""Completions that are correct, and all that were graded."""

PRIOR = 0.5
_NODES = 96
# In units of the width that a posterior has in t away from the ends; at the ends it is wider by sqrt(2).
_REACH = 12.0


@lru_cache(maxsize=1 << 16)
def chance_below(before: Counts, after: Counts, ratio: float) -> float:
    """P(P_t < ratio): how likely the value after a step is below `ratio` times the value before it, in [0, 1].

    Args:
        before, after: (correct, total) of the two states, 0 <= correct <= total; (0, 0) is the prior alone.
        ratio: positive.
    """
    import numpy as np

    found = chances_below(np.array([before[0]]), before[1], np.array([after[0]]), after[1], ratio)
    return float(found[0])


def chances_below(
    correct_before: FloatArray, total_before: int, correct_after: FloatArray, total_after: int, ratio: float
) -> FloatArray:
    """`chance_below` for many pairs of counts of the same totals; arrays of one length."""
    import numpy as np

    x = correct_before[:, None] + PRIOR, total_before - correct_before[:, None] + PRIOR
    y = correct_after[:, None] + PRIOR, total_after - correct_after[:, None] + PRIOR
    if total_after >= total_before:
        # The integral over the narrower density, of a distribution function that varies slowly below it:
        # P = integral of f_Y(v) P(X > v / r).
        value, weight = _nodes(*y, min(ratio, 1.0))
        chance = (weight * (1 - beta_cdf(np.minimum(value / ratio, 1.0), *x))).sum(axis=1)
    else:
        value, weight = _nodes(*x, min(1 / ratio, 1.0))
        chance = (weight * beta_cdf(np.minimum(value * ratio, 1.0), *y)).sum(axis=1)
        if ratio > 1:  # where r x > 1, Y is below it for certain
            chance = chance + 1 - beta_cdf(np.full_like(x[0], 1 / ratio), *x)[:, 0]
    clipped: FloatArray = np.clip(chance, 0.0, 1.0)
    return clipped


def _nodes(a: FloatArray, b: FloatArray, end: float) -> tuple[FloatArray, FloatArray]:
    """Values in [0, end], and their weights in an integral over the density of Beta(a, b)."""
    import numpy as np

    middle, reach = np.arcsin(np.sqrt(a / (a + b))), _REACH / (2 * np.sqrt(a + b))
    low, high = (np.clip(side, 0, math.asin(math.sqrt(end))) for side in (middle - reach, middle + reach))
    points, weights = _legendre()
    # Squares put more nodes near the upper end, where the other distribution may have a root's slope.
    angle = high - (high - low) * points**2
    sine, cosine = np.sin(angle), np.cos(angle)
    log_density = (2 * a - 1) * _log(sine) + (2 * b - 1) * _log(cosine) - _log_beta(a, b)
    return sine**2, 4 * (high - low) * points * weights * np.exp(log_density)


def _log(x: FloatArray) -> FloatArray:
    import numpy as np

    # A zero has a finite logarithm here, because it may stand to the power of zero.
    logs: FloatArray = np.log(np.maximum(x, 1e-300))
    return logs


def beta_cdf(x: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """The distribution function of Beta(a, b) at x in [0, 1] (DLMF 8.17.22, a continued fraction); arrays broadcast."""
    import numpy as np

    x, a, b = np.broadcast_arrays(x, a, b)
    # The fraction converges fast below the mean; above it the distribution is mirrored.
    mirrored = x > (a + 1) / (a + b + 2)
    x, a, b = np.where(mirrored, 1 - x, x), np.where(mirrored, b, a), np.where(mirrored, a, b)
    fraction = np.ones_like(x)
    for m in range(40 + int(4 * math.sqrt(float(np.max(a + b)))), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        fraction = 1 + even / (1 + odd / fraction)
    fraction = 1 - (a + b) * x / ((a + 1) * fraction)
    inside = (x > 0) & (x < 1)
    safe = np.where(inside, x, 0.5)
    log_front = a * np.log(safe) + b * np.log1p(-safe) - np.log(a) - _log_beta(a, b)
    below = np.where(inside, np.exp(log_front) / fraction, np.where(x > 0, 1.0, 0.0))
    found: FloatArray = np.clip(np.where(mirrored, 1 - below, below), 0.0, 1.0)
    return found


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    import numpy as np

    points, weights = np.polynomial.legendre.leggauss(_NODES)
    return (points + 1) / 2, weights / 2


def _log_beta(a: FloatArray, b: FloatArray) -> FloatArray:
    """log B(a, b); equal pairs are computed once, since nodes share theirs."""
    import numpy as np

    pairs, place = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1, return_inverse=True)
    values = [math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q) for p, q in pairs.T.tolist()]
    found: FloatArray = np.array(values)[place.ravel()].reshape(a.shape)
    return found
