"""Metrics of step-error localisation, as ProcessBench defines them, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from genprm.evals.intervals import NOTHING, bootstrap_share, plain_share, ratio_share, resampled_totals
from genprm.evals.predictions import FAILED, Prediction
from genprm.records import NO_ERROR, LocalisationFigures, Share

if TYPE_CHECKING:
    from genprm.evals.intervals import FloatArray

Metric = Literal["error_accuracy", "correct_accuracy", "f1", "unparsed", "failed"]
_Row: TypeAlias = tuple[float, ...]
_NO_ERRONEOUS = "no erroneous solution was judged"
_NO_CORRECT = "no correct solution was judged"
_HALF = "F1 needs judged solutions of both kinds"


@dataclass(frozen=True, slots=True)
class Judged:
    """Solutions with their true first errors, and what each verification path predicted.

    Attributes:
        truth: index of the first error of each solution, or NO_ERROR.
        paths: for each path, one prediction per solution. One path for a voted prediction; several for Pass@1,
            which is the mean of the metrics of each path alone.

    Raises:
        ValueError: no path, or a path with more or fewer predictions than solutions.
    """

    truth: Sequence[int]
    paths: Sequence[Sequence[Prediction]]

    def __post_init__(self) -> None:
        if not self.paths or any(len(path) != len(self.truth) for path in self.paths):
            raise ValueError("every path needs one prediction per solution")

    def rows(self, *, erroneous: bool) -> list[_Row]:
        """Per solution of a kind and path: named exactly (1 or 0), then per path: judged at all (1 or 0)."""
        rows = []
        for true, guesses in zip(self.truth, zip(*self.paths, strict=True), strict=True):
            if (true != NO_ERROR) == erroneous:
                hits = [float(guess == true) for guess in guesses]
                judged = [float(guess != FAILED) for guess in guesses]
                rows.append((*hits, *judged))
        return rows

    def missing(self, kind: Prediction) -> list[float]:
        """Per solution: the share of paths whose prediction is `kind` (None or FAILED)."""
        return [
            sum(guess == kind for guess in guesses) / len(guesses)
            for guesses in zip(*self.paths, strict=True)
        ]


def localisation_metrics(
    truth: Sequence[int], predicted: Sequence[Prediction], *, seed: int = 0
) -> LocalisationFigures:
    """ProcessBench's metrics of one prediction per solution.

    Args:
        truth: index of the first error of each solution, or NO_ERROR.
        predicted: the same as predicted. None counts as wrong and is reported as `unparsed`; FAILED is reported
            as `failed` and counts nowhere else.
        seed: of the resamples behind F1's interval.
    """
    return path_metrics(Judged(truth, [predicted]), seed=seed)


def path_metrics(judged: Judged, *, seed: int = 0) -> LocalisationFigures:
    """Metrics of each path alone, averaged over the paths: Pass@1 of independent paths.

    Intervals are over solutions: the paths of one solution are no independent evidence. Accuracies are taken over
    all judged paths of a kind; F1 is the mean of the paths' own F1.
    """
    wrong, right = judged.rows(erroneous=True), judged.rows(erroneous=False)
    error, correct = _accuracy(wrong, seed, _NO_ERRONEOUS), _accuracy(right, seed, _NO_CORRECT)
    total = len(judged.truth)
    return LocalisationFigures(
        error_accuracy=error,
        correct_accuracy=correct,
        f1=_f1_share(wrong, right, error, correct, seed),
        unparsed=_missing_share(judged.missing(None), len(judged.paths), seed),
        failed=_missing_share(judged.missing(FAILED), len(judged.paths), seed),
        erroneous=len(wrong),
        correct=total - len(wrong),
    )


def average_metrics(splits: Sequence[Judged], *, seed: int = 0) -> LocalisationFigures:
    """The plain mean over splits, field by field.

    ProcessBench averages the F1 of its subsets instead of taking the F1 of the mean accuracies. A field that is
    unknown in one split is unknown. Intervals resample the solutions of each split on their own. `erroneous` and
    `correct` are totals. Raises `ValueError` for no splits.
    """
    if not splits:
        raise ValueError("no splits to average")
    figures = [path_metrics(split, seed=seed) for split in splits]
    resamples = [_resamples(split, seed, 4 * index) for index, split in enumerate(splits)]

    def mean(metric: Metric, shares: list[Share], ends: tuple[float, float] | None = None) -> Share:
        return _mean_of_shares(shares, [one[metric] for one in resamples], ends)

    error = mean("error_accuracy", [one.error_accuracy for one in figures])
    correct = mean("correct_accuracy", [one.correct_accuracy for one in figures])
    return LocalisationFigures(
        error_accuracy=error,
        correct_accuracy=correct,
        f1=mean("f1", [one.f1 for one in figures], _f1_ends(error, correct)),
        unparsed=mean("unparsed", [one.unparsed for one in figures]),
        failed=mean("failed", [one.failed for one in figures]),
        erroneous=sum(one.erroneous for one in figures),
        correct=sum(one.correct for one in figures),
    )


def harmonic_mean(left: float | None, right: float | None) -> float | None:
    """The harmonic mean of two shares; 0 when both are 0, None when one is unknown."""
    if left is None or right is None:
        return None
    return 2 * left * right / (left + right) if left + right else 0.0


def _accuracy(rows: Sequence[_Row], seed: int, reason: str) -> Share:
    """Share of exact predictions among the judged ones; a row is hits, then judged flags, path by path."""
    half = len(rows[0]) // 2 if rows else 0
    hits, judged = [sum(row[:half]) for row in rows], [sum(row[half:]) for row in rows]
    if half <= 1:
        return plain_share(round(sum(hits)), round(sum(judged)), reason)
    return ratio_share(hits, judged, seed=seed, reason=reason)


def _missing_share(shares: Sequence[float], paths: int, seed: int) -> Share:
    if paths == 1:
        return plain_share(round(sum(shares)), len(shares), NOTHING)
    return ratio_share(shares, [1.0] * len(shares), seed=seed, reason=NOTHING)


def _f1_share(
    wrong: Sequence[_Row], right: Sequence[_Row], error: Share, correct: Share, seed: int
) -> Share:
    import numpy as np

    if error.value is None or correct.value is None:
        return Share.unknown(_HALF)
    value = float(_f1(np.sum([wrong], axis=1), np.sum([right], axis=1))[0])
    if math.isnan(value):
        return Share.unknown("no path judged solutions of both kinds")
    drawn = _f1(resampled_totals(wrong, seed), resampled_totals(right, seed, stream=1))
    ends = _f1_ends(error, correct)
    return bootstrap_share(value, drawn, len(wrong) + len(right), otherwise=lambda: ends)


def _f1(wrong: FloatArray, right: FloatArray) -> FloatArray:
    """F1 in percent of each row of totals, as a mean over the paths that judged solutions of both kinds."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        error, correct = _ratio(wrong), _ratio(right)
        both = error + correct
        f1 = np.where(both == 0, 0.0, 200 * error * correct / both)
        known = ~np.isnan(f1)
        means: FloatArray = np.where(known, f1, 0).sum(axis=1) / known.sum(axis=1)
    return means


def _ratio(totals: FloatArray) -> FloatArray:
    half = totals.shape[1] // 2
    ratio: FloatArray = totals[:, :half] / totals[:, half:]
    return ratio


def _f1_ends(error: Share, correct: Share) -> tuple[float, float] | None:
    """The ends of both accuracies' intervals, through F1, which grows with either."""
    low, high = harmonic_mean(error.low, correct.low), harmonic_mean(error.high, correct.high)
    return None if low is None or high is None else (low, high)


def _resamples(judged: Judged, seed: int, stream: int) -> dict[Metric, FloatArray]:
    """Each metric of each resample of the solutions, drawn within their kind; NaN when it is undefined."""
    nothing = [(0.0,) * 2 * len(judged.paths)]
    wrong = resampled_totals(judged.rows(erroneous=True) or nothing, seed, stream)
    right = resampled_totals(judged.rows(erroneous=False) or nothing, seed, stream + 1)
    return {
        "error_accuracy": _pooled(wrong),
        "correct_accuracy": _pooled(right),
        "f1": _f1(wrong, right),
        "unparsed": _resampled_mean(judged.missing(None), seed, stream + 2),
        "failed": _resampled_mean(judged.missing(FAILED), seed, stream + 3),
    }


def _pooled(totals: FloatArray) -> FloatArray:
    """Accuracy in percent over all paths together."""
    import numpy as np

    half = totals.shape[1] // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy: FloatArray = 100 * totals[:, :half].sum(axis=1) / totals[:, half:].sum(axis=1)
    return accuracy


def _resampled_mean(values: Sequence[float], seed: int, stream: int) -> FloatArray:
    means: FloatArray = 100 * resampled_totals([(one,) for one in values or [0.0]], seed, stream)[:, 0]
    return means / max(1, len(values))


def _mean_of_shares(
    shares: Sequence[Share], resamples: Sequence[FloatArray], ends: tuple[float, float] | None
) -> Share:
    import numpy as np

    values = [share.value for share in shares if share.value is not None]
    if len(values) < len(shares):
        return Share.unknown("it is unknown in one of the splits")
    total = sum(share.total or 0 for share in shares)
    otherwise = None if ends is None else lambda: ends
    return bootstrap_share(
        sum(values) / len(values), np.mean(resamples, axis=0), total, otherwise=otherwise
    )
