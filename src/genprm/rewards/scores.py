"""Scores of a solution from its step rewards (method, part 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genprm.records import SolutionScore


def score_solution(rewards: Sequence[float | None]) -> SolutionScore:
    """Last, mean, min and product of the step rewards.

    Every score is None if a step has no reward: an unparsed or failed verdict, or a step skipped
    after the first error. Best-of-N therefore needs verifications that judge all steps.
    """
    known = [reward for reward in rewards if reward is not None]
    if not known or len(known) < len(rewards):
        return SolutionScore()
    return SolutionScore(
        last=known[-1], mean=math.fsum(known) / len(known), min=min(known), prod=math.prod(sorted(known))
    )
