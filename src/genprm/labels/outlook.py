"""What a label will be once all samples of its states are drawn, judged from those that are drawn already.

The samples still to come have a predictive distribution: with c of n correct so far, the number of correct ones among
r more is beta-binomial with the posterior Beta(c + 1/2, n - c + 1/2). Both states of a step are independent, and every
rule is monotone in both counts: so the chance of each label is a sum over the counts before the step, of the chance of
the counts after it that reach the rule's critical value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from genprm.config.models import LabelConfig
from genprm.labels.posterior import PRIOR, chances_below
from genprm.labels.rules import label_step
from genprm.records import StepLabel, StepScore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray: TypeAlias = npt.NDArray[np.float64]
    IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outlook:
    """A step's label by the counts so far.

    Attributes:
        label: what the rule says now.
        stays: how likely it says the same when all samples are drawn, in [0, 1]; exactly 1 if none are left.
    """

    label: StepLabel
    stays: float


def outlook(before: StepScore, after: StepScore, left: tuple[int, int], options: LabelConfig) -> Outlook:
    """The label of a step, and how likely it stays.

    Args:
        before, after: the counts of its states so far.
        left: samples of each that are still to be drawn.
    """
    label = label_step(before, after, options)
    if options.method == "hard":
        before, left = StepScore(correct=1, total=1), (0, left[1])  # play no part
    wrong_answer = after.origin == "answer" and after.value == 0
    totals = before.total + left[0], after.total + left[1]
    if left == (0, 0) or wrong_answer or not all(totals):
        return Outlook(label, 1.0)
    method = "ratio" if options.method == "posterior" and after.origin == "answer" else options.method
    bound = options.threshold, options.false_above, options.true_bound
    false_below, true_from = _critical(
        method, *totals, *(bound if method == "posterior" else (bound[0], 0, 0))
    )
    ahead = _counts_ahead(before.correct, before.total, left[0])
    after_below = _below(_counts_ahead(after.correct, after.total, left[1]), after.correct, totals[1])
    span = slice(before.correct, before.correct + left[0] + 1)
    is_false = float(ahead @ after_below[false_below[span]])
    is_true = float(ahead @ (1 - after_below[true_from[span]]))
    chance = {False: is_false, True: is_true, None: 1 - is_false - is_true}
    return Outlook(label, min(max(chance[label.label], 0.0), 1.0))


@lru_cache(maxsize=1 << 14)
def _counts_ahead(correct: int, total: int, left: int) -> FloatArray:
    """The chance of 0, 1, ... `left` correct ones among `left` more samples."""
    import numpy as np

    a, b = correct + PRIOR, total - correct + PRIOR
    logs = [
        math.lgamma(left + 1) - math.lgamma(k + 1) - math.lgamma(left - k + 1)
        + math.lgamma(k + a) + math.lgamma(left - k + b) - math.lgamma(left + a + b)
        for k in range(left + 1)
    ]  # fmt: skip
    weights = np.exp(np.array(logs) - max(logs))
    chances: FloatArray = weights / weights.sum()
    return chances


def _below(ahead: FloatArray, correct: int, total: int) -> FloatArray:
    """The chance that the final count is below 0, 1, ... total + 1."""
    import numpy as np

    below = np.zeros(total + 2)
    below[correct + 1 : correct + 1 + len(ahead)] = np.cumsum(ahead)
    below[correct + len(ahead) :] = 1.0
    return below


@lru_cache(maxsize=1 << 10)
def _critical(
    method: str, before: int, after: int, threshold: float, false_above: float, true_up_to: float
) -> tuple[IntArray, IntArray]:
    """By the final count before a step: the count after it below which it is False, and from which it is True.

    `after + 1` if no count reaches it.
    """
    import numpy as np

    if method == "hard":
        one = np.ones(before + 1, dtype=np.int64)
        return one, one
    if method == "posterior":
        return _posterior_critical(before, after, threshold, false_above), _posterior_critical(
            before, after, threshold, true_up_to
        )
    exact = Fraction(repr(threshold))
    needed = [after + 1]  # nothing is left to progress from
    for correct in range(1, before + 1):
        value = Fraction(correct, before)
        bound = value * exact if method == "ratio" else value + exact
        needed.append(min(max(math.ceil(bound * after), 0), after + 1))
    both = np.array(needed, dtype=np.int64)
    return both, both


def _posterior_critical(before: int, after: int, ratio: float, bound: float) -> IntArray:
    """By the final count before a step: the smallest positive one after it with P(P_t < ratio) <= bound."""
    import numpy as np

    counts = np.arange(before + 1, dtype=np.float64)
    low, high = np.ones(before + 1, dtype=np.int64), np.full(before + 1, after + 1, dtype=np.int64)
    # The chance falls as the count after the step rises, so the smallest one is found by halving.
    while (low < high).any():
        middle = np.minimum((low + high) // 2, after)
        reached = chances_below(counts, before, middle.astype(np.float64), after, ratio) <= bound
        open_ = low < high
        high = np.where(open_ & reached, middle, high)
        low = np.where(open_ & ~reached, middle + 1, low)
    low[0] = after + 1  # nothing is left to progress from
    return low
