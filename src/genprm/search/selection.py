"""Best-of-N on one problem: what each rule chooses among the same candidates (method, policy test-time scaling)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genprm.records import Choice, Selection, Solution, SolutionScore
from genprm.search.best_of_n import heaviest

BY_SCORE = ("last", "mean", "min", "prod")
RULES = ("first", "majority", *BY_SCORE, "weighted")
NO_CANDIDATE = "no_candidate"
NO_ANSWER = "no_answer"


def choose(
    problem_id: str,
    solutions: Sequence[Solution],
    scores: Sequence[SolutionScore],
    classes: Sequence[str | None],
) -> Selection:
    """What each rule chooses; of equals the candidate that was sampled first.

    - `first`: the first candidate (Pass@1).
    - `majority`: the answer class with most candidates.
    - `last`, `mean`, `min`, `prod`: the highest solution score of that kind.
    - `weighted`: the answer class with the largest sum of `mean` scores.

    A candidate without an answer has no vote, one without a score is not chosen by score. A rule that chooses nothing
    says why: `no_candidate`, `no_answer` or `no_score`.

    Args:
        scores: one for each solution.
        classes: the class of equal answers of each solution (`Domain.vote_classes`).
    """
    if not solutions:
        nothing = Choice(reason=NO_CANDIDATE)
        return Selection(problem_id=problem_id, candidates=(), choices=dict.fromkeys(RULES, nothing))
    choices = {"first": _choice(solutions, 0, NO_CANDIDATE)}
    votes = [None if name is None else 1.0 for name in classes]
    choices["majority"] = _choice(solutions, _heaviest(classes, votes), NO_ANSWER)
    for rule in BY_SCORE:
        values = [getattr(score, rule) for score in scores]
        choices[rule] = _choice(solutions, _highest(values), "no_score")
    weights = [score.mean for score in scores]
    voters = any(name is not None for name in classes)
    choices["weighted"] = _choice(
        solutions, _heaviest(classes, weights), "no_score" if voters else NO_ANSWER
    )
    return Selection(problem_id=problem_id, candidates=tuple(row.id for row in solutions), choices=choices)


def answered_right(choice: Choice) -> bool | None:
    """Whether a rule answers the problem right, which has a reference answer; None if that is unknown.

    Where there is no candidate, or none that states an answer, there is no right one: all rules count that as wrong, as
    the solution that `first` takes there is graded.
    """
    return False if choice.reason in (NO_CANDIDATE, NO_ANSWER) else choice.correct


def _highest(values: Sequence[float | None]) -> int | None:
    known = [(value, -index) for index, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None


def _heaviest(classes: Sequence[str | None], weights: Sequence[float | None]) -> int | None:
    """The first member of the class with the largest total weight."""
    totals: dict[str, float] = {}
    for name, weight in zip(classes, weights, strict=True):
        if name is not None and weight is not None and math.isfinite(weight):
            totals[name] = totals.get(name, 0.0) + weight
    # Names are in the order of their first voter, so the first of equals was sampled first.
    best = heaviest(totals)
    return None if best is None else classes.index(best)


def _choice(solutions: Sequence[Solution], index: int | None, reason: str) -> Choice:
    if index is None:
        return Choice(reason=reason)
    chosen = solutions[index]
    return Choice(solution_id=chosen.id, answer=chosen.answer, correct=chosen.correct)
