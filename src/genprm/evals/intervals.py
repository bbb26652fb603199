"""95 % intervals of shares.

A plain share of independent items has Wilson's score interval (Wilson 1927), which holds near 0 and 100 % and for
few items. Anything else (ratios of totals, means over paths, expectations, F1, averages) has the percentile
bootstrap (Efron 1979): the independent items are drawn anew with replacement, `RESAMPLES` times, and the statistic
is taken of each draw. Items are whatever is independent: solutions, not their verification paths; problems, when
several solutions belong to one.

A bootstrap knows nothing of what it never saw: when every resample gives the same value, its interval would have
width zero. At 0 or 100 % Wilson's interval for the number of items takes its place; elsewhere the interval is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from genprm.records import Share

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray: TypeAlias = npt.NDArray[np.float64]

Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
RESAMPLES = 2000
NOTHING = "nothing could be measured"
_SAME = "a bootstrap interval needs items that differ"


def wilson(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of `count` of `total` independent items, in percent.

    Raises `ValueError` unless 0 <= count <= total and total > 0.
    """
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"there is no share of {count} in {total}")
    share = count / total
    spread = Z * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    middle, scale = share + Z**2 / (2 * total), 1 + Z**2 / total
    # The ends at 0 of n and n of n are exact; rounding must not move them.
    low = 0.0 if count == 0 else (middle - spread) / scale
    high = 1.0 if count == total else (middle + spread) / scale
    return 100 * low, 100 * high


def plain_share(count: int, total: int, reason: str = NOTHING) -> Share:
    """`count` of `total` independent items, with Wilson's interval; unknown for `reason` when there is no item."""
    if total == 0:
        return Share.unknown(reason, total=0)
    low, high = wilson(count, total)
    return Share(value=100 * count / total, low=low, high=high, count=count, total=total, method="wilson")


def ratio_share(
    parts: Sequence[float], wholes: Sequence[float], *, seed: int = 0, reason: str = NOTHING
) -> Share:
    """The ratio of two totals over independent items, with a bootstrap interval over the items.

    With wholes of 1 it is the mean of `parts`.

    Args:
        parts, wholes: each item's share of the totals, 0 <= part <= whole. Items with a whole of 0 count for nothing.
        seed: of the resamples.
        reason: why the share is unknown when no item has a whole.
    """
    pairs = [(part, whole) for part, whole in zip(parts, wholes, strict=True) if whole]
    if not pairs:
        return Share.unknown(reason, total=0)
    value = 100 * math.fsum(part for part, _ in pairs) / math.fsum(whole for _, whole in pairs)
    totals = resampled_totals(pairs, seed)
    return bootstrap_share(value, 100 * totals[:, 0] / totals[:, 1], len(pairs))


def mean_share(values: Sequence[float], *, seed: int = 0, reason: str = NOTHING) -> Share:
    """The mean of independent values in [0, 1], in percent, with a bootstrap interval over them."""
    return ratio_share(values, [1.0] * len(values), seed=seed, reason=reason)


def resampled_totals(items: Sequence[Sequence[float]], seed: int, stream: int = 0) -> FloatArray:
    """Totals over `len(items)` items drawn with replacement, field by field: (RESAMPLES, fields).

    Equal items are drawn as one group, so the cost grows with the number of different items only. Sets of items that
    one statistic combines must have streams of their own, or their draws would be correlated.
    """
    import numpy as np

    rows = np.asarray(items, dtype=np.float64)
    different, counts = np.unique(rows, axis=0, return_counts=True)
    drawn = np.random.default_rng((seed, stream)).multinomial(len(rows), counts / len(rows), size=RESAMPLES)
    totals: FloatArray = drawn @ different
    return totals


def bootstrap_share(
    value: float,
    resamples: FloatArray,
    total: int,
    otherwise: Callable[[], tuple[float, float] | None] | None = None,
) -> Share:
    """A share with the interval between the 2.5 % and 97.5 % quantiles of its resamples.

    The interval is widened to the value in the rare case that it misses it, as it can for a skewed statistic.

    Args:
        value: the share in percent.
        resamples: the share in each resample; NaN when it is undefined, which counts for nothing.
        total: independent items that were resampled.
        otherwise: the interval when all resamples agree, instead of Wilson's at 0 and 100 %; None when it has none.
    """
    import numpy as np

    value = min(100.0, max(0.0, value))
    defined = resamples[~np.isnan(resamples)]
    if len(defined) and np.ptp(defined) > 1e-9:
        low, high = (float(end) for end in np.clip(np.quantile(defined, (0.025, 0.975)), 0, 100))
        return Share(
            value=value, low=min(low, value), high=max(high, value), total=total, method="bootstrap"
        )
    ends = (otherwise or (lambda: _extreme(value, total)))()
    if ends is None:
        return Share(value=value, total=total, reason=_SAME)
    return Share(
        value=value, low=min(ends[0], value), high=max(ends[1], value), total=total, method="wilson"
    )


def _extreme(value: float, total: int) -> tuple[float, float] | None:
    """Wilson's interval when no item, or every item, counts in full."""
    if math.isclose(value, 0, abs_tol=1e-9):
        return wilson(0, total)
    return wilson(total, total) if math.isclose(value, 100) else None
