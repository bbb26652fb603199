"""Metrics of step-error localisation, as ProcessBench defines them, and of labels. All in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genprm.records import NO_ERROR, Part


class Localisation(Part):
    """How well first errors were found.

    Attributes:
        error_accuracy: share of erroneous solutions whose first error was named exactly.
        correct_accuracy: share of correct solutions found to have no error.
        f1: harmonic mean of the two; 0 where both are 0.
        unparsed: share of all solutions without a prediction; these count as wrong above.
        erroneous, correct: how many solutions of each kind there are (means, where several
            measurements were averaged over different ones).
    """

    error_accuracy: float | None
    correct_accuracy: float | None
    f1: float | None
    unparsed: float | None
    erroneous: int
    correct: int


def localisation_metrics(truth: Sequence[int], predicted: Sequence[int | None]) -> Localisation:
    """ProcessBench's metrics, in percent.

    Args:
        truth: index of the first error of each solution, or NO_ERROR.
        predicted: the same as predicted; None where there is no prediction.

    A share over no solutions is None, and so is an F1 that lacks one of its halves.
    """
    pairs = list(zip(truth, predicted, strict=True))
    erroneous = [(true, guess) for true, guess in pairs if true != NO_ERROR]
    correct = [(true, guess) for true, guess in pairs if true == NO_ERROR]
    error_accuracy, correct_accuracy = _exact(erroneous), _exact(correct)
    return Localisation(
        error_accuracy=error_accuracy,
        correct_accuracy=correct_accuracy,
        f1=harmonic_mean(error_accuracy, correct_accuracy),
        unparsed=percent(sum(guess is None for _, guess in pairs), len(pairs)),
        erroneous=len(erroneous),
        correct=len(correct),
    )


def _exact(pairs: Sequence[tuple[int, int | None]]) -> float | None:
    return percent(sum(true == guess for true, guess in pairs), len(pairs))


def percent(count: int, total: int) -> float | None:
    """`count` of `total` in percent; None of nothing."""
    return 100.0 * count / total if total else None


def harmonic_mean(left: float | None, right: float | None) -> float | None:
    """The harmonic mean of two shares; 0 where both are 0, None where one is unknown."""
    if left is None or right is None:
        return None
    return 2 * left * right / (left + right) if left + right else 0.0


def mean_metrics(metrics: Sequence[Localisation]) -> Localisation:
    """The mean of several measurements, field by field.

    For Pass@1 over the paths of one verifier, and for an average over subsets, where ProcessBench
    averages the subsets' F1 instead of taking the F1 of the mean accuracies. A field that is None in
    one of them is None. Raises `ValueError` for no measurements.
    """
    if not metrics:
        raise ValueError("no measurements to average")
    return Localisation(
        error_accuracy=_mean([row.error_accuracy for row in metrics]),
        correct_accuracy=_mean([row.correct_accuracy for row in metrics]),
        f1=_mean([row.f1 for row in metrics]),
        unparsed=_mean([row.unparsed for row in metrics]),
        erroneous=round(sum(row.erroneous for row in metrics) / len(metrics)),
        correct=round(sum(row.correct for row in metrics) / len(metrics)),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, slots=True)
class LabelQuality:
    """How labels compare with the truth, in percent.

    Attributes:
        rows: solutions compared.
        accuracy: share of solutions whose first error the labels name exactly; an unknown one counts
            as wrong.
        step_accuracy: share of right labels among the steps up to the earlier of the two first errors
            (the steps on which a filter and a training sample rely).
        unknown: share of solutions whose labels name no first error.
    """

    rows: int
    accuracy: float | None
    step_accuracy: float | None
    unknown: float | None


def label_quality(
    truth: Sequence[int], labelled: Sequence[int | None], lengths: Sequence[int]
) -> LabelQuality:
    """Compare the first errors that labels name with the true ones.

    Args:
        truth: index of the first wrong step, or NO_ERROR.
        labelled: `SolutionLabels.first_error`.
        lengths: steps of each solution.
    """
    right = judged = 0
    for true, guess, length in zip(truth, labelled, lengths, strict=True):
        if guess is None:
            continue
        ends = [index for index in (true, guess) if index != NO_ERROR]
        agreed = min(ends) if ends else length
        # Before the earlier error both say True; at it they agree only where it is the error of both.
        judged += agreed + bool(ends)
        right += agreed + (bool(ends) and true == guess)
    return LabelQuality(
        rows=len(truth),
        accuracy=_exact(list(zip(truth, labelled, strict=True))),
        step_accuracy=percent(right, judged),
        unknown=percent(sum(guess is None for guess in labelled), len(labelled)),
    )
