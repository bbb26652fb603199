"""Binary search for the first error of a solution with a wrong answer, for when nothing but its place is wanted.

States are numbered from 0, the problem alone, to T, the whole solution, which is bad. The search keeps a state that is
good and a later one that is bad, and judges the state halfway between them against the good one, as if all steps
between were one step. It finds the first error if what follows an error is bad as well; an error that the solution
recovers from before it makes another one is overlooked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bracket:
    """Between which states a search ended.

    Attributes:
        good: the last state that is known to be good.
        bad: the first state that is known to be bad. If it is the next one, the step between them is the first error.
        stuck: the state between them that could not be judged, if the search did not come to its end.
    """

    good: int
    bad: int
    stuck: int | None = None


def locate(steps: int, judge: Callable[[int, int], bool | None]) -> Bracket:
    """Search the first error of a solution with a wrong answer.

    Args:
        steps: T, at least 1.
        judge: whether a state (second) is good, given one before it that is; None if that is not known (yet).
    """
    good, bad = 0, steps
    while bad - good > 1:
        middle = (good + bad) // 2
        verdict = judge(good, middle)
        if verdict is None:
            return Bracket(good, bad, stuck=middle)
        good, bad = (middle, bad) if verdict else (good, middle)
    return Bracket(good, bad)
