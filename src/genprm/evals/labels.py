"""How labels compare with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genprm.evals.intervals import ratio_share
from genprm.records import NO_ERROR, Share

_NONE = "there are no labelled solutions"


@dataclass(frozen=True, slots=True)
class LabelQuality:
    """How labels compare with the truth. Intervals are over problems.

    Attributes:
        rows: solutions compared.
        accuracy: share of solutions whose first error the labels name exactly; an unknown one counts as wrong.
        step_accuracy: share of right labels among the steps up to the earlier of the two first errors (the steps
            on which a filter and a training sample rely).
        unknown: share of solutions whose labels name no first error.
    """

    rows: int
    accuracy: Share
    step_accuracy: Share
    unknown: Share


@dataclass(frozen=True, slots=True)
class LabelledSolution:
    """A solution's labels beside the truth.

    Attributes:
        problem_id: solutions of one problem are not independent.
        truth: index of the first wrong step, or NO_ERROR.
        labelled: `SolutionLabels.first_error`.
        steps: how many steps it has.
    """

    problem_id: str
    truth: int
    labelled: int | None
    steps: int


def label_quality(solutions: Sequence[LabelledSolution], *, seed: int = 0) -> LabelQuality:
    """Compare the first errors that labels name with the true ones."""
    by_problem: dict[str, list[LabelledSolution]] = {}
    for solution in solutions:
        by_problem.setdefault(solution.problem_id, []).append(solution)
    groups = list(by_problem.values())
    sizes = [len(group) for group in groups]
    right = [sum(one.labelled == one.truth for one in group) for group in groups]
    unknown = [sum(one.labelled is None for one in group) for group in groups]
    steps = [[_steps(one) for one in group] for group in groups]
    return LabelQuality(
        rows=len(solutions),
        accuracy=ratio_share(right, sizes, seed=seed, reason=_NONE),
        step_accuracy=ratio_share(
            [sum(agreed for agreed, _ in group) for group in steps],
            [sum(judged for _, judged in group) for group in steps],
            seed=seed,
            reason="no labels name a first error",
        ),
        unknown=ratio_share(unknown, sizes, seed=seed, reason=_NONE),
    )


def _steps(solution: LabelledSolution) -> tuple[int, int]:
    """Right labels, and labels compared."""
    guess, true = solution.labelled, solution.truth
    if guess is None:
        return 0, 0
    ends = [index for index in (true, guess) if index != NO_ERROR]
    agreed = min(ends) if ends else solution.steps
    # Before the earlier error both say True; at it they agree only when it is the error of both.
    return agreed + (bool(ends) and true == guess), agreed + bool(ends)
