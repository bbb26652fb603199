"""What each rule chooses among one problem's candidates, and why one chooses nothing."""

from __future__ import annotations

import itertools

from genprm.records import Solution, SolutionScore
from genprm.search.best_of_n import Candidate, weighted_vote
from genprm.search.selection import NO_ANSWER, NO_CANDIDATE, RULES, answered_right, choose


def pool(*answers: str | None) -> list[Solution]:
    return [
        Solution(id=f"p/{k}", problem_id="p", steps=("a step",), answer=answer, correct=answer == "A")
        for k, answer in enumerate(answers)
    ]


def scores(*means: float | None) -> list[SolutionScore]:
    return [SolutionScore(last=mean, mean=mean, min=mean, prod=mean) for mean in means]


def test_of_equal_totals_the_one_that_was_sampled_first_wins_however_they_round() -> None:
    """0.1 + 0.2 + 0.3 is more than 0.3 + 0.3 by a rounding error alone."""
    answers, means = ("B", "B", "A", "A", "A"), (0.3, 0.3, 0.1, 0.2, 0.3)
    for order in itertools.permutations(range(5)):
        names, weights = [answers[k] for k in order], [means[k] for k in order]
        chosen = choose("p", pool(*names), scores(*weights), names).choices["weighted"]
        voted = weighted_vote(
            [
                Candidate(name, name == "A", score)
                for name, score in zip(names, scores(*weights), strict=True)
            ]
        )
        assert chosen.answer == voted == names[0]


def test_a_rule_that_chooses_nothing_says_why() -> None:
    """For want of a candidate or an answer it is wrong, as the first candidate's grade says; of a score, unknown."""
    empty = choose("p", (), (), ()).choices
    assert list(empty) == list(RULES)
    assert {one.reason for one in empty.values()} == {NO_CANDIDATE}
    assert {answered_right(one) for one in empty.values()} == {False}
    mute = choose("p", pool(None, None), scores(0.5, 0.6), (None, None)).choices
    assert (mute["majority"].reason, mute["weighted"].reason) == (NO_ANSWER, NO_ANSWER)
    assert {rule: answered_right(one) for rule, one in mute.items()} == dict.fromkeys(RULES, False)
    unscored = choose("p", pool("A", "B"), scores(None, None), ("A", "B")).choices
    assert (unscored["min"].reason, unscored["weighted"].reason) == ("no_score", "no_score")
    assert (answered_right(unscored["min"]), answered_right(unscored["weighted"])) == (None, None)
    assert (answered_right(unscored["first"]), answered_right(unscored["majority"])) == (True, True)
