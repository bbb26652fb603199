"""Relative Progress Estimation and its variants: from Monte-Carlo counts to step labels (method, part 2).

All comparisons of estimates are exact: estimates are counts, and a threshold is read as the decimal that it is
written as, so that 24/32 over 30/32 does reach 0.8.
"""

from __future__ import annotations

from fractions import Fraction

from genprm.config.models import LabelConfig
from genprm.labels.posterior import chance_below
from genprm.labels.search import locate
from genprm.records import SolutionLabels, SolutionScores, StepLabel, StepScore

MISSING = "estimate_missing"
UNDECIDED = "undecided"
TEACHER = "left_to_teacher"
AFTER_ERROR = "after_first_error"


def label_solution(scores: SolutionScores, options: LabelConfig) -> SolutionLabels:
    """Labels of a solution's steps.

    With MC(s_t) the estimate before step t (MC(s_1) is the completer's Pass@1) and MC(s_t, a_t) the one
    after it, a step is labelled True if

    - `ratio`: P_t = MC(s_t, a_t) / MC(s_t) >= threshold (equations 10, 11);
    - `difference`: MC(s_t, a_t) - MC(s_t) >= threshold;
    - `hard`: MC(s_t, a_t) > 0;
    - `posterior`: not False, and it is False if MC(s_t, a_t) = 0, or if P(P_t < threshold) > `false_above` under the Beta
      posteriors of both values (`chance_below`). With `true_up_to` chances between the two bounds are no label: its
      reason is `undecided`, or `left_to_teacher` if the consensus filter shall take the teacher's word for this step.

    All rules but `hard` label a step False if MC(s_t) = 0: nothing is left to progress from. No rule labels a wrong
    final answer True. The label is None, with reason `estimate_missing`, if a missing estimate could change it;
    `after_first_error` is the reason where an estimator stopped sampling because an earlier step is False.

    Scores of the estimator `binary` for a wrong answer are read as the search was made (`genprm.labels.search`): steps
    before the first error are True, the one at it is False. A rule that would have searched elsewhere finds no counts
    there, and its labels are unknown.
    """
    last = scores.steps[-1]
    searched = scores.estimator == "binary" and last.origin == "answer" and last.value == 0
    labels = _searched(scores, options) if searched else _stepwise(scores, options)
    return SolutionLabels(
        solution_id=scores.solution_id,
        problem_id=scores.problem_id,
        method=options.method,
        threshold=options.threshold,
        labels=tuple(labels),
    )


def label_step(before: StepScore, after: StepScore, options: LabelConfig) -> StepLabel:
    """The label of a step between two states."""
    start, end = exact_value(before), exact_value(after)
    if options.method == "hard":
        return _missing() if end is None else StepLabel(label=end > 0, progress=float(end))
    if start == 0:
        return StepLabel(label=False)
    if end == 0 and (after.origin == "answer" or options.method != "difference"):
        # A wrong answer is no progress. Zero over anything stays below every positive threshold, known or not. For the
        # posterior, too: the next step would be False because nothing is left, and the error named one step late.
        return StepLabel(label=False, progress=_progress(start, end, options))
    if start is None or end is None:
        return _missing()
    if options.method == "posterior" and after.origin != "answer":
        return _by_posterior(before, after, options)
    progress = end - start if options.method == "difference" else end / start
    return StepLabel(label=progress >= Fraction(repr(options.threshold)), progress=float(progress))


def exact_value(score: StepScore) -> Fraction | None:
    """MC as an exact ratio, or None if nothing could be graded."""
    if score.origin == "zero_rule":
        return Fraction(0)
    return Fraction(score.correct, score.total) if score.total else None


def _by_posterior(before: StepScore, after: StepScore, options: LabelConfig) -> StepLabel:
    below = chance_below((before.correct, before.total), (after.correct, after.total), options.ratio)
    progress = _progress(exact_value(before), exact_value(after), options)
    if below > options.false_above:
        return StepLabel(label=False, progress=progress, below=below)
    if below <= options.true_bound:
        return StepLabel(label=True, progress=progress, below=below)
    reason = UNDECIDED if options.undecided == "drop" else TEACHER
    return StepLabel(label=None, progress=progress, below=below, reason=reason)


def _progress(start: Fraction | None, end: Fraction | None, options: LabelConfig) -> float | None:
    if start is None or end is None:
        return None
    return float(end - start if options.method == "difference" else end / start)


def _stepwise(scores: SolutionScores, options: LabelConfig) -> list[StepLabel]:
    labels: list[StepLabel] = []
    for before, after in zip([scores.start, *scores.steps], scores.steps, strict=False):
        label = label_step(before, after, options)
        if label.reason == MISSING and any(earlier.label is False for earlier in labels):
            label = StepLabel(label=None, reason=AFTER_ERROR)
        labels.append(label)
    return labels


def _searched(scores: SolutionScores, options: LabelConfig) -> list[StepLabel]:
    states = [scores.start, *scores.steps]

    def judge(good: int, asked: int) -> bool | None:
        return label_step(states[good], states[asked], options).label

    found = locate(len(scores.steps), judge)
    at = states[found.bad if found.stuck is None else found.stuck]
    label, reason = label_step(states[found.good], at, options), AFTER_ERROR
    if found.stuck is not None:
        reason = label.reason or MISSING
        label = StepLabel(label=None, reason=reason)
    labels = [*[StepLabel(label=True)] * found.good, label]
    return labels + [StepLabel(label=None, reason=reason)] * (len(scores.steps) - len(labels))


def _missing() -> StepLabel:
    return StepLabel(label=None, reason=MISSING)
