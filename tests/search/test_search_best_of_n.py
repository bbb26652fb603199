"""Best-of-N: exact expectations that agree with enumeration, and deterministic choices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.records import SolutionScore
from genprm.search import best_of_n
from genprm.search.best_of_n import (
    METHODS,
    Candidate,
    accuracies,
    expected_accuracies,
    majority_vote,
    select,
    weighted_vote,
)


def candidate(answer: str | None, correct: bool | None, score: float | None = 0.5) -> Candidate:
    return Candidate(answer, correct, SolutionScore(last=score, mean=score, min=score, prod=score))


CANDIDATES = st.lists(
    st.builds(
        lambda answer, score: candidate(answer, answer == "a", score),
        st.sampled_from(["a", "b", "c", None]),
        st.sampled_from([None, 0.1, 0.5, 0.5, 0.9]),
    ),
    min_size=1,
    max_size=5,
)


def enumerated(candidates: Sequence[Candidate], n: int) -> dict[str, float]:
    """Play every ordered draw."""
    outcomes: dict[str, list[float]] = {method: [] for method in METHODS}
    for draw in itertools.permutations(candidates, n):
        for by in ("last", "mean", "min"):
            chosen = select(draw, by)  # type: ignore[arg-type]
            outcomes[by].append(bool(draw[chosen or 0].correct))
        winner = majority_vote([c.answer for c in draw])
        outcomes["majority"].append(any(c.correct and c.answer == winner for c in draw))
        weighted = weighted_vote(draw)
        if weighted is None:
            outcomes["weighted"].append(bool(draw[0].correct))
        else:
            outcomes["weighted"].append(any(c.correct and c.answer == weighted for c in draw))
        outcomes["pass@n"].append(any(c.correct for c in draw))
        outcomes["pass@1"].append(bool(draw[0].correct))
    return {method: math.fsum(values) / len(values) for method, values in outcomes.items()}


@settings(deadline=None, max_examples=60)
@given(CANDIDATES, st.data())
def test_expectations_equal_the_mean_over_all_ordered_draws(
    candidates: list[Candidate], data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, len(candidates)))
    found, expected = accuracies(candidates, n), enumerated(candidates, n)
    assert found == pytest.approx(expected)
    assert all(value <= found["pass@n"] + 1e-9 for value in found.values())


def test_at_one_every_method_is_pass_at_one() -> None:
    row = accuracies(
        [candidate("a", True, 0.2), candidate("b", False, 0.9), candidate(None, False, None)], 1
    )
    assert list(row.values()) == pytest.approx([1 / 3] * len(METHODS))


def test_all_samples_give_the_plain_answers() -> None:
    candidates = [candidate("b", False, 0.3), candidate("b", False, 0.2), candidate("a", True, 0.9)]
    row = accuracies(candidates, 3)
    assert (row["majority"], row["last"], row["pass@n"]) == (0.0, 1.0, 1.0)


def test_choices_are_deterministic() -> None:
    assert select([candidate("a", True, 0.5), candidate("b", True, 0.7), candidate("c", True, 0.7)]) == 1
    assert select([candidate("a", True, None)]) is None
    assert select([]) is None
    assert majority_vote(["b", "a", "a", "b", None, None, None]) == "b"
    assert majority_vote([None]) is None


def test_an_answer_class_may_hold_wrongly_graded_members() -> None:
    candidates = [candidate("a", True), candidate("a", False), candidate("b", False)]
    assert accuracies(candidates, 3)["majority"] == pytest.approx(0.5)


def test_the_report_counts_what_is_unknown() -> None:
    problems = [
        [candidate("a", True, 0.9), candidate("b", False, 0.1), candidate("c", None)],
        [candidate("a", True, None)],
    ]
    report = expected_accuracies(problems, (1, 2, 4))
    assert report.problems == 2
    assert report.evaluated == {1: 2, 2: 1, 4: 0}
    assert (report.ungraded, report.unscored) == (1, 1)
    assert report.table[1]["pass@1"] == pytest.approx(75.0)
    assert report.table[2]["min"] == pytest.approx(100.0)
    assert report.table[2]["majority"] == pytest.approx(50.0)
    assert set(report.table[4].values()) == {None}
    assert [len(rows) for rows in report.rows.values()] == [2, 1, 0]
    with pytest.raises(ValueError, match="cannot draw"):
        accuracies(problems[1], 2)


def test_sixteen_of_sixty_four_distinct_answers_is_quick() -> None:
    candidates = [candidate(str(i), i == 0, i / 64) for i in range(64)]
    assert accuracies(candidates, 16)["majority"] == pytest.approx(1 / 64)


def test_weighted_voting_by_hand() -> None:
    confident = candidate("a", True, 0.9)
    doubtful = [candidate("b", False, 0.4), candidate("b", False, 0.3)]
    assert weighted_vote([*doubtful, confident]) == "a", "0.9 outweighs 0.7"
    assert majority_vote([c.answer for c in [*doubtful, confident]]) == "b"
    assert weighted_vote([*doubtful, candidate("b", False, 0.3), confident]) == "b", "1.0 outweighs 0.9"
    row = accuracies([*doubtful, confident], 3)
    assert (row["weighted"], row["majority"]) == (1.0, 0.0)


def test_unscored_candidates_have_no_weight() -> None:
    unscored = [candidate("b", False, None)] * 3
    assert weighted_vote([*unscored, candidate("a", True, 0.1)]) == "a"
    assert accuracies([*unscored, candidate("a", True, 0.1)], 4)["weighted"] == 1.0
    assert weighted_vote([*unscored, candidate(None, False, 0.9)]) is None
    assert weighted_vote([]) is None


def test_too_many_draws_are_sampled_with_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = [candidate("abc"[k % 3], k % 3 == 0, (k * 7 % 10) / 10) for k in range(12)]
    exact = accuracies(candidates, 6)["weighted"]
    monkeypatch.setattr(best_of_n, "EXACT_DRAWS", 900)
    best_of_n._draws.cache_clear()
    sampled = [accuracies(candidates, 6, seed=seed)["weighted"] for seed in (0, 1)]
    best_of_n._draws.cache_clear()
    assert sampled == pytest.approx([exact] * 2, abs=0.07)
    assert sampled[0] != sampled[1]
