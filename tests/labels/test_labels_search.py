"""The binary search for the first error, and how its scores are read."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from genprm.config import LabelConfig
from genprm.labels import AFTER_ERROR, Bracket, label_solution, locate
from genprm.records import SolutionScores, StepScore

SKIPPED = StepScore(correct=0, total=0, origin="skipped")
WRONG = StepScore(correct=0, total=1, origin="answer")
RIGHT = StepScore(correct=1, total=1, origin="answer")


@given(steps=st.integers(1, 200), data=st.data())
def test_the_first_error_is_found_with_a_logarithm_of_the_states(steps: int, data: st.DataObject) -> None:
    first_error = data.draw(st.integers(0, steps - 1))
    asked = []

    def judge(good: int, state: int) -> bool:
        assert good < state < steps
        asked.append(state)
        return state <= first_error

    assert locate(steps, judge) == Bracket(first_error, first_error + 1)
    assert len(asked) <= math.ceil(math.log2(steps)) if steps > 1 else not asked


def test_a_state_that_cannot_be_judged_ends_the_search() -> None:
    assert locate(8, lambda good, state: None if state == 6 else True) == Bracket(4, 8, stuck=6)


def labels(*steps: StepScore, **rule: object) -> list[tuple[bool | None, str | None]]:
    scores = SolutionScores(
        solution_id="s",
        problem_id="p",
        start=StepScore(correct=24, total=32),
        steps=steps,
        estimator="binary",
    )
    found = label_solution(scores, LabelConfig.model_validate(rule))
    return [(one.label, one.reason) for one in found.labels]


def test_steps_before_the_found_error_are_right_and_later_ones_unknown() -> None:
    good, bad = StepScore(correct=14, total=16), StepScore(correct=1, total=16)
    assert labels(SKIPPED, good, bad, SKIPPED, WRONG) == [
        (True, None),
        (True, None),
        (False, None),
        (None, AFTER_ERROR),
        (None, AFTER_ERROR),
    ]


def test_a_rule_that_would_search_elsewhere_knows_nothing() -> None:
    """The counts say bad by the ratio; the hard rule goes on to the right, where nobody sampled."""
    bad = StepScore(correct=2, total=16)
    assert labels(bad, bad, SKIPPED, WRONG) == [(False, None), *[(None, AFTER_ERROR)] * 3]
    assert labels(bad, bad, SKIPPED, WRONG, method="hard") == [
        (True, None),
        (True, None),
        (None, "estimate_missing"),
        (None, "estimate_missing"),
    ]


def test_a_right_answer_is_read_step_by_step() -> None:
    """What follows an error is not bad there, so nothing is implied."""
    bad, good = StepScore(correct=1, total=16), StepScore(correct=12, total=16)
    assert labels(bad, good, RIGHT)[0] == (False, None)


def test_an_undecided_state_leaves_the_rest_undecided() -> None:
    between = StepScore(correct=9, total=16)
    band = {"method": "posterior", "true_up_to": 0.05, "false_above": 0.99}
    assert labels(SKIPPED, between, SKIPPED, WRONG, **band) == [(None, "undecided")] * 4
