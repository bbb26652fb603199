"""A solution is kept only if teacher and labels agree up to the first error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.records import (
    NO_ERROR,
    Consensus,
    Rationale,
    Solution,
    SolutionLabels,
    StageOutput,
    StepLabel,
    StepRationale,
)
from genprm.synth.consensus import REASONS, filter_by_consensus


def solution(length: int) -> Solution:
    return Solution(id="s", problem_id="p", steps=tuple(f"step {i}" for i in range(length)))


def labels(*flags: bool | None) -> SolutionLabels:
    steps = tuple(StepLabel(label=flag, reason=None if flag is not None else "x") for flag in flags)
    return SolutionLabels(solution_id="s", problem_id="p", method="ratio", threshold=0.8, labels=steps)


def rationale(
    index: int | None, judgements: list[bool | None], sample: int = 0, **more: object
) -> Rationale:
    steps = tuple(StepRationale(text="t", judgement=judgement) for judgement in judgements)
    fields = {"solution_id": "s", "problem_id": "p", "steps": steps, "first_error": index, "sample": sample}
    return Rationale.model_validate({**fields, **more})


def run(flags: list[bool | None], *rationales: Rationale) -> StageOutput[Consensus]:
    return filter_by_consensus([solution(len(flags))], [labels(*flags)], rationales)


def test_agreement_is_kept() -> None:
    assert run([True, False, True], rationale(1, [True, False])).rows == (
        Consensus(solution_id="s", problem_id="p", first_error=1),
    )
    assert run([True, True], rationale(NO_ERROR, [True, True])).rows[0].first_error == NO_ERROR


def test_steps_after_the_first_error_do_not_count() -> None:
    assert run([False, None, True], rationale(0, [False])).rows
    assert run([False, True, True], rationale(0, [False, True, False])).rows


def test_missing_step_judgements_do_not_contradict() -> None:
    assert run([True, False], rationale(1, [None, None])).rows


@pytest.mark.parametrize(
    ("reason", "flags", "written"),
    [
        ("label_unknown", [True, None], [rationale(1, [True, False])]),
        ("no_rationale", [True, True], []),
        ("rationale_failed", [True, True], [rationale(None, [True], status="truncated", reason="tokens")]),
        ("rationale_failed", [True, True], [rationale(None, [True, True])]),
        ("rationale_failed", [True, True], [rationale(2, [True, True])]),
        ("rationale_incomplete", [True, True], [rationale(NO_ERROR, [True])]),
        ("rationale_incomplete", [True, False], [rationale(1, [True])]),
        ("judgements_contradict_index", [True, False], [rationale(1, [False, False])]),
        ("judgements_contradict_index", [True, False], [rationale(1, [True, True])]),
        ("judgements_contradict_index", [True, True], [rationale(NO_ERROR, [True, False])]),
        ("disagree", [True, False], [rationale(0, [False])]),
        ("disagree", [True, True], [rationale(1, [True, False])]),
        ("disagree", [True, False], [rationale(None, [], status="no_index"), rationale(0, [False], 1)]),
    ],
)
def test_reasons(reason: str, flags: list[bool | None], written: list[Rationale]) -> None:
    output = run(flags, *written)
    assert not output.rows
    assert [(row.item_id, row.reason) for row in output.dropped] == [("s", reason)]


def test_no_labels() -> None:
    output = filter_by_consensus([solution(1)], [], [rationale(NO_ERROR, [True])])
    assert [row.reason for row in output.dropped] == ["no_labels"]


def test_the_first_rationale_that_agrees_is_taken() -> None:
    written = [rationale(1, [True, False], 2), rationale(0, [False], 0), rationale(1, [True, False], 1)]
    assert run([True, False], *written).rows[0].rationale_sample == 1


indices = st.integers(NO_ERROR, 3) | st.none()


@given(
    flags=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=4),
    index=indices,
    judgements=st.lists(st.sampled_from([True, False, None]), max_size=4),
)
def test_kept_means_that_every_implied_label_agrees(
    flags: list[bool | None], index: int | None, judgements: list[bool | None]
) -> None:
    output = run(flags, rationale(index, judgements))
    assert len(output.rows) + len(output.dropped) == 1
    if output.dropped:
        assert output.dropped[0].reason in REASONS
        return
    assert index is not None and output.rows[0].first_error == index
    until = len(flags) if index == NO_ERROR else index + 1
    assert flags[:until] == [step != index for step in range(until)]
    assert all(
        judgement is None or judgement == flag
        for judgement, flag in zip(judgements[:until], flags, strict=False)
    )


def left(*flags: bool | str | None) -> SolutionLabels:
    """Labels, of which `"?"` is left to the teacher."""
    steps = tuple(
        StepLabel(label=None, reason="left_to_teacher")
        if flag == "?"
        else StepLabel.model_validate({"label": flag, "reason": None if flag is not None else "x"})
        for flag in flags
    )
    return SolutionLabels(solution_id="s", problem_id="p", method="posterior", threshold=0.8, labels=steps)


@pytest.mark.parametrize(
    ("flags", "index", "first_error"),
    [
        ([True, "?", True], NO_ERROR, NO_ERROR),
        ([True, "?", True], 1, 1),
        (["?", "?", False], 0, 0),
        (["?", "?", False], 2, 2),
        (["?", None, True], 0, 0),
        (["?", None, True], NO_ERROR, None),
        ([True, "?", False], NO_ERROR, None),
        ([True, "?", True], 2, None),
    ],
)
def test_the_teachers_word_counts_for_what_is_left_to_it(
    flags: list[bool | str | None], index: int, first_error: int | None
) -> None:
    judgements: list[bool | None] = [number != index for number in range(len(flags))]
    output = filter_by_consensus([solution(len(flags))], [left(*flags)], [rationale(index, judgements)])
    assert [row.first_error for row in output.rows] == ([] if first_error is None else [first_error])
    assert [row.reason for row in output.dropped] == (["disagree"] if first_error is None else [])


@pytest.mark.parametrize(
    ("flags", "written", "detail"),
    [
        ([True, False], rationale(0, [False]), "first error: step 1 by the teacher, step 2 by the labels"),
        (
            [True, True],
            rationale(1, [True, False]),
            "first error: step 2 by the teacher, none by the labels",
        ),
        ([True, False], rationale(1, [False, False]), "step 1 is judged wrong, first error: step 2"),
        ([True, True], rationale(NO_ERROR, [True, False]), "step 2 is judged wrong, first error: none"),
        ([True, True], rationale(2, [True, True]), "first error: step 3, of 2 steps"),
        ([True, True], rationale(None, [True, True]), "first error: not given, of 2 steps"),
    ],
)
def test_details_count_steps_from_1(flags: list[bool | None], written: Rationale, detail: str) -> None:
    assert run(flags, written).dropped[0].detail == detail
