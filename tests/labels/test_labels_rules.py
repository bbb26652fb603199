"""Labels by relative progress and its variants, exact to the last count."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.config.models import LabelConfig
from genprm.errors import ConfigError
from genprm.labels.posterior import chance_below
from genprm.labels.rules import MISSING, label_solution
from genprm.records import NO_ERROR, SolutionLabels, SolutionScores, StepScore


def counts(correct: int, total: int) -> StepScore:
    return StepScore(correct=correct, total=total)


def label(start: StepScore, *steps: StepScore, **options: object) -> SolutionLabels:
    scores = SolutionScores(solution_id="s", problem_id="p", start=start, steps=steps)
    return label_solution(scores, LabelConfig.model_validate(options))


def values(labels: SolutionLabels) -> list[bool | None]:
    return [step.label for step in labels.labels]


UNKNOWN = StepScore(correct=0, total=0, failed=8)
ZERO_RULE = StepScore(correct=0, total=0, origin="zero_rule")


def test_ratio() -> None:
    labels = label(counts(16, 32), counts(32, 64), counts(25, 64), counts(20, 64), counts(40, 64))
    assert values(labels) == [True, False, True, True]
    assert [step.progress for step in labels.labels] == pytest.approx([1.0, 25 / 32, 0.8, 2.0])
    assert (labels.method, labels.threshold, labels.first_error) == ("ratio", 0.8, 1)


def test_the_threshold_itself_is_progress() -> None:
    """24/32 over 30/32 is 0.8 exactly, whatever floating point makes of it."""
    assert values(label(counts(30, 32), counts(24, 32))) == [True]
    assert values(label(counts(49, 64), counts(49, 80))) == [True]
    assert values(label(counts(7, 10), counts(4, 10), method="difference")) == [True]


def test_hard_and_difference() -> None:
    steps = (counts(32, 64), counts(1, 64), counts(0, 64), ZERO_RULE)
    assert values(label(counts(16, 32), *steps, method="hard")) == [True, True, False, False]
    assert values(label(counts(16, 32), *steps, method="difference")) == [True, False, True, False]
    assert values(label(counts(16, 32), *steps, method="difference", difference=-0.5)) == [
        True,
        True,
        True,
        False,
    ]
    assert values(label(counts(16, 32), *steps)) == [True, False, False, False]


def test_the_last_step_counts_by_its_answer() -> None:
    right = StepScore(correct=1, total=1, origin="answer")
    wrong = StepScore(correct=0, total=1, origin="answer")
    assert label(counts(16, 32), counts(10, 16), right).first_error == NO_ERROR
    assert label(counts(16, 32), counts(10, 16), wrong).first_error == 1


def test_unknown_estimates_make_unknown_labels_only_where_they_matter() -> None:
    labels = label(counts(16, 32), UNKNOWN, counts(10, 16), counts(10, 16))
    assert values(labels) == [None, None, True]
    assert [step.reason for step in labels.labels] == [MISSING, MISSING, None]
    assert labels.first_error is None
    assert values(label(counts(16, 32), UNKNOWN, counts(10, 16), method="hard")) == [None, True]
    # Nothing over anything is below the threshold; anything after nothing is no progress.
    assert values(label(counts(16, 32), UNKNOWN, counts(0, 16), UNKNOWN)) == [None, False, False]
    # An unknown label after the first error does not hide it.
    assert label(counts(16, 32), counts(1, 32), UNKNOWN).first_error == 0


scores = st.integers(0, 12).flatmap(lambda c: st.integers(max(c, 1), 12).map(lambda t: counts(c, t)))
maybe = st.one_of(scores, st.just(UNKNOWN), st.just(ZERO_RULE))
starts = scores.filter(lambda score: score.correct > 0)


@given(start=starts, steps=st.lists(maybe, min_size=1, max_size=6), epsilon=st.integers(1, 30))
def test_ratio_is_the_equation(start: StepScore, steps: list[StepScore], epsilon: int) -> None:
    labels = label(start, *steps, ratio=epsilon / 10)
    before = [start, *steps]
    for previous, step, found in zip(before, steps, labels.labels, strict=False):
        if previous.value is None or step.value is None:
            assert found.label is None or (found.label is False and 0 in (previous.value, step.value))
        elif previous.value == 0:
            assert found.label is False
        else:
            over = Fraction(previous.correct, previous.total)
            under = Fraction(step.correct, step.total) if step.total else Fraction(0)
            assert found.label is (10 * under >= epsilon * over)
        assert (found.label is None) == (found.reason is not None)


@given(
    start=starts,
    steps=st.lists(maybe, min_size=1, max_size=6),
    low=st.integers(1, 15),
    high=st.integers(15, 30),
)
def test_a_higher_threshold_never_makes_a_step_progress(
    start: StepScore, steps: list[StepScore], low: int, high: int
) -> None:
    lenient = values(label(start, *steps, ratio=low / 10))
    strict = values(label(start, *steps, ratio=high / 10))
    assert all(not (b and not a) for a, b in zip(lenient, strict, strict=True))


@given(start=starts, steps=st.lists(scores, min_size=1, max_size=6))
def test_the_methods_agree_where_the_difference_is_stark(start: StepScore, steps: list[StepScore]) -> None:
    """A step with MC = 0 is wrong by the hard label and by the ratio; rising MC is right by all."""
    found = {m: values(label(start, *steps, method=m)) for m in ("hard", "difference", "ratio")}
    for previous, step, hard, difference, ratio in zip(
        [start, *steps], steps, *found.values(), strict=False
    ):
        if step.value == 0:
            assert hard is False and ratio is False
        elif previous.value and (step.value or 0) >= previous.value:
            assert hard and difference and ratio


def test_a_wrong_final_answer_is_right_by_no_rule() -> None:
    """A difference of -0.3 from a value of 0.3 or less would call it progress."""
    wrong = StepScore(correct=0, total=1, origin="answer")
    for method in ("hard", "difference", "ratio", "posterior"):
        for before in (counts(1, 16), counts(4, 16), counts(15, 16), UNKNOWN):
            assert values(label(counts(8, 16), before, wrong, method=method))[1] is False


def test_the_posterior_needs_evidence_for_an_error() -> None:
    """11 of 16 over 15 of 16 is below 0.8, but 4 completions less happen by chance too often."""
    few = label(counts(15, 16), counts(11, 16), method="posterior").labels[0]
    assert few.label is True and few.below == pytest.approx(0.657, abs=0.001)
    assert few.progress == pytest.approx(11 / 15)
    assert values(label(counts(15, 16), counts(11, 16))) == [False]
    assert values(label(counts(120, 128), counts(84, 128), method="posterior")) == [False]
    right = StepScore(correct=1, total=1, origin="answer")
    found = label(counts(8, 16), counts(8, 16), right, method="posterior")
    assert (values(found), found.threshold, found.labels[1].below) == ([True, True], 0.8, None)
    assert values(label(counts(8, 16), UNKNOWN, counts(8, 16), method="posterior")) == [None, None]
    assert values(label(counts(8, 16), counts(0, 16), ZERO_RULE, method="posterior")) == [False, False]


@pytest.mark.parametrize("before", [counts(1, 16), counts(2, 16), UNKNOWN])
@pytest.mark.parametrize("band", [{}, {"true_up_to": 0.8, "undecided": "keep"}])
def test_the_posterior_names_an_error_where_nothing_is_left(
    before: StepScore, band: dict[str, object]
) -> None:
    """By the chance alone the step would be no error, and the one after it, with nothing to progress from, the first."""
    if before.total:
        assert chance_below((before.correct, before.total), (0, 16), 0.8) < 0.95
    found = label(before, before, counts(0, 16), counts(0, 16), method="posterior", **band)
    assert values(found)[1:] == [False, False]
    assert found.first_error == (1 if before.total else None)


def test_between_the_bounds_there_is_no_label() -> None:
    steps = (counts(14, 16), counts(10, 16), counts(1, 16))
    band = {"method": "posterior", "true_up_to": 0.5, "false_above": 0.95}
    dropped = label(counts(15, 16), *steps, **band)
    assert values(dropped) == [True, None, False]
    assert (dropped.labels[1].reason, dropped.first_error) == ("undecided", None)
    kept = label(counts(15, 16), *steps, **band, undecided="keep")
    assert kept.labels[1].reason == "left_to_teacher"
    with pytest.raises(ConfigError, match="true_up_to must be at most false_above"):
        LabelConfig(method="posterior", true_up_to=0.95, false_above=0.9)


def test_steps_that_were_not_sampled_after_an_error_say_so() -> None:
    skipped = StepScore(correct=0, total=0, origin="skipped")
    found = label(counts(15, 16), counts(1, 16), skipped, skipped)
    assert [(step.label, step.reason) for step in found.labels] == [
        (False, None),
        (None, "after_first_error"),
        (None, "after_first_error"),
    ]
    assert found.first_error == 0
    other = label(counts(15, 16), counts(1, 16), skipped, skipped, method="hard")
    assert [step.reason for step in other.labels] == [None, MISSING, MISSING]
