"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.evals.accuracy import pass_at_1, pass_at_n, share_correct, share_ungraded
from genprm.evals.best_of_n import best_of_n_section
from genprm.evals.intervals import wilson
from genprm.evals.labels import LabelledSolution, label_quality
from genprm.evals.metrics import Judged, average_metrics, harmonic_mean, localisation_metrics, path_metrics
from genprm.evals.predictions import FAILED, Prediction
from genprm.records import NO_ERROR, LocalisationFigures, Share, SolutionScore
from genprm.search.best_of_n import METHODS, Candidate


def values(figures: LocalisationFigures) -> tuple[float | None, float | None, float | None]:
    return figures.error_accuracy.value, figures.correct_accuracy.value, figures.f1.value


def shares(figures: LocalisationFigures) -> dict[str, Share]:
    return {name: one for name, one in figures if isinstance(one, Share)}


def test_localisation_by_hand() -> None:
    truth = [0, 1, 2, 3, -1, -1, -1]
    predicted = [0, 1, 1, None, -1, 2, None]
    found = localisation_metrics(truth, predicted)
    assert values(found) == pytest.approx((50.0, 100 / 3, 2 * 50 * (100 / 3) / (50 + 100 / 3)))
    assert found.f1.value == pytest.approx(40.0)
    assert found.unparsed.value == pytest.approx(100 * 2 / 7)
    assert (found.erroneous, found.correct) == (4, 3)
    assert (found.error_accuracy.low, found.error_accuracy.high) == wilson(2, 4)
    assert (found.f1.method, found.f1.total) == ("bootstrap", 7)
    assert found.f1.low is not None and found.f1.high is not None
    assert found.f1.low < 40 < found.f1.high


def test_extremes() -> None:
    assert localisation_metrics([0, -1], [1, 0]).f1.value == 0.0
    assert localisation_metrics([0, -1], [0, -1]).f1.value == 100.0
    assert localisation_metrics([0, -1], [-1, -1]).f1.value == 0.0
    only_errors = localisation_metrics([0, 1], [0, 0])
    assert values(only_errors) == (50.0, None, None)
    assert only_errors.f1.reason == "F1 needs judged solutions of both kinds"
    nothing = localisation_metrics([], [])
    assert {share.value for share in shares(nothing).values()} == {None}


def test_a_perfect_f1_is_as_uncertain_as_its_halves() -> None:
    perfect = localisation_metrics([0] * 10 + [-1] * 20, [0] * 10 + [-1] * 20)
    low = harmonic_mean(wilson(10, 10)[0], wilson(20, 20)[0])
    assert (perfect.f1.value, perfect.f1.high, perfect.f1.method) == (100.0, 100.0, "wilson")
    assert perfect.f1.low == pytest.approx(low)


def test_an_engine_fault_is_no_mistake_of_the_verifier() -> None:
    found = localisation_metrics([0, 1, -1, -1], [0, FAILED, -1, None])
    assert values(found) == (100.0, 50.0, pytest.approx(200 / 3))
    assert (found.error_accuracy.count, found.error_accuracy.total) == (1, 1)
    assert (found.failed.value, found.unparsed.value) == (25.0, 25.0)
    assert (found.erroneous, found.correct) == (2, 2)
    lost = localisation_metrics([0, -1], [FAILED, FAILED])
    assert (*values(lost), lost.failed.value, lost.unparsed.value) == (None, None, None, 100.0, 0.0)


def test_published_figures_are_consistent() -> None:
    """GPT-4o on ProcessBench's GSM8K: 70.0 on erroneous, 91.2 on correct; the harmonic mean is 79.2."""
    assert harmonic_mean(70.0, 91.2) == pytest.approx(79.2, abs=0.05)


def test_pass_at_1_is_the_mean_of_every_path_alone() -> None:
    truth = [0, 1, -1, -1]
    paths: list[list[Prediction]] = [[0, 0, -1, -1], [0, 1, -1, None], [1, 1, 0, -1]]
    alone = [localisation_metrics(truth, path) for path in paths]
    together = path_metrics(Judged(truth, paths))
    for name in ("error_accuracy", "correct_accuracy", "f1", "unparsed", "failed"):
        singles = [shares(one)[name].value for one in alone]
        assert shares(together)[name].value == pytest.approx(sum(filter(None, singles)) / 3), name
    assert together.error_accuracy.total == 2, "paths of one solution are not independent"


def test_more_paths_of_the_same_solutions_do_not_narrow_the_interval() -> None:
    truth = [0] * 40 + [-1] * 40
    path: list[Prediction] = [0] * 25 + [1] * 15 + [-1] * 30 + [2] * 10
    one, many = path_metrics(Judged(truth, [path])), path_metrics(Judged(truth, [path] * 16))
    assert (many.f1.low, many.f1.high) == pytest.approx((one.f1.low, one.f1.high))


def test_a_path_that_was_lost_everywhere_leaves_the_mean_to_the_others() -> None:
    found = path_metrics(Judged([0, -1], [[0, -1], [FAILED, FAILED]]))
    assert values(found) == (100.0, 100.0, 100.0)
    assert found.failed.value == 50.0


def test_paths_have_one_prediction_per_solution() -> None:
    for paths in ([], [[0]], [[0, 0], [0]]):
        with pytest.raises(ValueError, match="one prediction per solution"):
            Judged([0, 1], paths)


def test_the_average_over_splits_is_taken_of_f1_itself() -> None:
    right, wrong = Judged([0, -1], [[0, -1]]), Judged([0, -1], [[-1, -1]])
    average = average_metrics([right, wrong])
    assert values(average) == (50.0, 100.0, 50.0)
    assert (average.erroneous, average.correct) == (2, 2)
    unknown = average_metrics([right, Judged([0], [[0]])])
    assert (unknown.f1.value, unknown.error_accuracy.value) == (None, 100.0)
    assert unknown.f1.reason == "it is unknown in one of the splits"
    with pytest.raises(ValueError, match="no splits"):
        average_metrics([])


def test_the_average_of_splits_is_more_certain_than_each() -> None:
    truth = [0] * 50 + [-1] * 50
    path: list[Prediction] = [0] * 35 + [1] * 15 + [-1] * 40 + [2] * 10
    split = Judged(truth, [path])
    one, average = path_metrics(split), average_metrics([split] * 4)
    assert average.f1.value == pytest.approx(one.f1.value)
    assert average.f1.low is not None and average.f1.high is not None
    assert one.f1.low is not None and one.f1.high is not None
    assert (average.f1.high - average.f1.low) == pytest.approx((one.f1.high - one.f1.low) / 2, rel=0.15)


PREDICTIONS = st.integers(-1, 4) | st.none() | st.just(FAILED)
rows = st.lists(st.tuples(st.integers(-1, 4), PREDICTIONS), min_size=1, max_size=30)


@settings(deadline=None)
@given(rows)
def test_localisation_properties(pairs: list[tuple[int, Prediction]]) -> None:
    truth, predicted = [true for true, _ in pairs], [guess for _, guess in pairs]
    found = localisation_metrics(truth, predicted)
    assert found == localisation_metrics(truth[::-1], predicted[::-1])
    assert found.erroneous + found.correct == len(pairs)
    error, correct, f1 = values(found)
    if f1 is not None:
        assert error is not None and correct is not None
        low, high = sorted([error, correct])
        assert low - 1e-9 <= f1 <= high + 1e-9
        assert (f1 == 0) == (low == 0)
    perfect = localisation_metrics(truth, list(truth))
    assert {perfect.error_accuracy.value, perfect.correct_accuracy.value} <= {100.0, None}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 2), *[PREDICTIONS] * 3), min_size=1, max_size=12))
def test_metrics_over_paths_are_always_valid(
    items: list[tuple[int, Prediction, Prediction, Prediction]],
) -> None:
    judged = Judged([row[0] for row in items], [[row[k] for row in items] for k in (1, 2, 3)])
    for figures in (path_metrics(judged), average_metrics([judged, judged])):
        for name, share in shares(figures).items():
            assert share.low is not None or share.reason, name


def test_label_quality_by_hand() -> None:
    # Solutions of four steps. Truth 2, labels 2: steps 0, 1, 2 right. Truth 1, labels 3: step 0 right, 1 not.
    # Truth none, labels none: all four. Truth none, labels 0: step 0 not. Truth 0, labels unknown.
    pairs = [(2, 2), (1, 3), (NO_ERROR, NO_ERROR), (NO_ERROR, 0), (0, None)]
    quality = label_quality([LabelledSolution(f"p{n}", *pair, 4) for n, pair in enumerate(pairs)])
    assert quality.rows == 5
    assert quality.accuracy.value == pytest.approx(40.0)
    assert quality.step_accuracy.value == pytest.approx(100 * (3 + 1 + 4 + 0) / (3 + 2 + 4 + 1))
    assert quality.unknown.value == pytest.approx(20.0)


def test_labels_of_one_problem_are_one_piece_of_evidence() -> None:
    labels = [LabelledSolution(f"p{n % 20}", 0, 0 if n % 20 < 12 else 1, 3) for n in range(200)]
    quality = label_quality(labels)
    assert (quality.rows, quality.accuracy.total, quality.accuracy.value) == (200, 20, pytest.approx(60))
    assert label_quality([]).accuracy.reason == "there are no labelled solutions"
    assert label_quality([LabelledSolution("p", 0, None, 3)]).step_accuracy.value is None


def test_shares() -> None:
    assert share_correct([True, False, None, True]).value == pytest.approx(200 / 3)
    assert (share_correct([None]).value, share_correct([None]).reason) == (
        None,
        "no answer could be graded",
    )
    assert share_ungraded([True, None]).value == 50.0
    assert pass_at_1([[True, False], [True, None], [None]]).value == pytest.approx(75.0)
    assert pass_at_n([[True, False], [False, False], [None, True]]).value == pytest.approx(200 / 3)
    assert pass_at_n([[False, None], [True]]).value == 100.0
    assert pass_at_n([]).value is None


def test_best_of_n_has_intervals_over_problems() -> None:
    def candidate(right: bool, score: float) -> Candidate:
        return Candidate("a" if right else "b", right, SolutionScore(last=score, mean=score, min=score))

    pools = [[candidate(k % 3 == 0, 0.9), candidate(k % 2 == 0, 0.1)] for k in range(30)]
    section = best_of_n_section(pools, (1, 2, 4))
    assert (section.problems, section.evaluated) == (30, {1: 30, 2: 30, 4: 0})
    assert list(section.sizes) == [1, 2, 4]
    assert set(section.sizes[2]) == set(METHODS)
    best = section.sizes[2]["mean"]
    assert (best.value, best.total, best.method) == (pytest.approx(100 / 3), 30, "bootstrap")
    assert section.sizes[1]["pass@1"].value == pytest.approx(100 * (10 + 15) / 60)
    assert section.sizes[4]["mean"].reason == "no problem has 4 graded candidates"
