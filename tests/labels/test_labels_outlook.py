"""How likely a label stays what it is: against every way in which the remaining samples can fall."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.config import LabelConfig
from genprm.labels import label_step, outlook
from genprm.records import StepScore

RULES = [
    LabelConfig(method="hard"),
    LabelConfig(method="ratio"),
    LabelConfig(method="ratio", ratio=1.3),
    LabelConfig(method="difference"),
    LabelConfig(method="posterior"),
    LabelConfig(method="posterior", true_up_to=0.5, false_above=0.8),
]
ANSWERS = [StepScore(correct=right, total=1, origin="answer") for right in (0, 1)]
samples = st.integers(0, 7).flatmap(
    lambda n: st.integers(0, n).map(lambda c: StepScore(correct=c, total=n))
)


def ahead(score: StepScore, left: int) -> list[float]:
    """The beta-binomial distribution by its definition: samples one after the other, Polya's urn."""
    chances = {score.correct: 1.0}
    for drawn in range(score.total, score.total + left):
        following: dict[int, float] = {}
        for correct, chance in chances.items():
            up = (correct + 0.5) / (drawn + 1)
            following[correct + 1] = following.get(correct + 1, 0.0) + chance * up
            following[correct] = following.get(correct, 0.0) + chance * (1 - up)
        chances = following
    return [chances[score.correct + more] for more in range(left + 1)]


@settings(deadline=None, max_examples=150)
@given(
    before=samples,
    after=st.one_of(samples, st.sampled_from(ANSWERS)),
    left=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    rule=st.sampled_from(RULES),
)
def test_a_label_stays_as_often_as_it_does(
    before: StepScore, after: StepScore, left: tuple[int, int], rule: LabelConfig
) -> None:
    left = (left[0], 0 if after.origin == "answer" else left[1])
    now = label_step(before, after, rule)
    found = outlook(before, after, left, rule)
    assert found.label == now
    if after.value == 0 and after.origin == "answer":
        assert found.stays == 1.0
        return
    same = 0.0
    for more, chance in enumerate(ahead(before, left[0])):
        for beyond, other in enumerate(ahead(after, left[1])):
            start = StepScore(correct=before.correct + more, total=before.total + left[0])
            end = after.model_copy(
                update={"correct": after.correct + beyond, "total": after.total + left[1]}
            )
            same += chance * other * (label_step(start, end, rule).label is now.label)
    if before.total + left[0] and after.total + left[1]:
        assert found.stays == pytest.approx(same, abs=1e-9)
    assert left != (0, 0) or found.stays == 1.0


def test_a_hard_label_is_decided_by_the_first_success() -> None:
    start = StepScore(correct=1, total=32)
    assert outlook(start, StepScore(correct=1, total=8), (0, 120), RULES[0]).stays == 1.0
    some = outlook(start, StepScore(correct=0, total=8), (0, 8), RULES[0])
    none_more = math.prod((8.5 + k) / (9 + k) for k in range(8))
    assert (some.label.label, some.stays) == (False, pytest.approx(none_more))
