"""Relative Progress Estimation and its variants: from Monte-Carlo counts to step labels (method, part 2).

All comparisons are exact: estimates are counts, and a threshold is read as the decimal that it is
written as, so that 24/32 over 30/32 does reach 0.8.
"""

from __future__ import annotations

from fractions import Fraction

from genprm.config.models import LabelConfig
from genprm.records import SolutionLabels, SolutionScores, StepLabel, StepScore

MISSING = "estimate_missing"


def label_solution(scores: SolutionScores, options: LabelConfig) -> SolutionLabels:
    """Labels of a solution's steps.

    With MC(s_t) the estimate before step t (MC(s_1) is the completer's Pass@1) and MC(s_t, a_t) the one
    after it, a step is labelled True if

    - `ratio`: MC(s_t, a_t) / MC(s_t) >= threshold (equations 10, 11);
    - `difference`: MC(s_t, a_t) - MC(s_t) >= threshold;
    - `hard`: MC(s_t, a_t) > 0.

    `ratio` and `difference` label a step False if MC(s_t) = 0: nothing is left to progress from. The
    label is None, with reason `estimate_missing`, if a missing estimate could change it.
    """
    before = [scores.start, *scores.steps]
    labels = tuple(
        _label(exact_value(start), exact_value(end), options)
        for start, end in zip(before, scores.steps, strict=False)
    )
    return SolutionLabels(
        solution_id=scores.solution_id,
        problem_id=scores.problem_id,
        method=options.method,
        threshold=options.threshold,
        labels=labels,
    )


def exact_value(score: StepScore) -> Fraction | None:
    """MC as an exact ratio, or None if nothing could be graded."""
    if score.origin == "zero_rule":
        return Fraction(0)
    return Fraction(score.correct, score.total) if score.total else None


def _label(start: Fraction | None, end: Fraction | None, options: LabelConfig) -> StepLabel:
    if options.method == "hard":
        return _missing() if end is None else StepLabel(label=end > 0, progress=float(end))
    if start == 0:
        return StepLabel(label=False)
    if options.method == "ratio" and end == 0 and options.ratio > 0:
        # Zero over anything stays below every positive threshold, known or not.
        return StepLabel(label=False, progress=None if start is None else 0.0)
    if start is None or end is None:
        return _missing()
    progress = end / start if options.method == "ratio" else end - start
    return StepLabel(label=progress >= Fraction(repr(options.threshold)), progress=float(progress))


def _missing() -> StepLabel:
    return StepLabel(label=None, reason=MISSING)
