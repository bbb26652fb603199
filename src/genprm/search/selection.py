"""Best-of-N on one problem: what each rule chooses among the same candidates (method, policy test-time scaling)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genprm.records import Choice, Selection, Solution, SolutionScore
from genprm.search.best_of_n import heaviest

BY_SCORE = ("last", "mean", "min", "prod")
RULES = ("first", "majority", *BY_SCORE, "weighted")


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

    A candidate without an answer has no vote, one without a score is not chosen by score.

    Args:
        scores: one for each solution.
        classes: the class of equal answers of each solution (`Domain.vote_classes`).
    """
    choices = {"first": _choice(solutions, 0 if solutions else None, "no_candidate")}
    votes = [None if name is None else 1.0 for name in classes]
    choices["majority"] = _choice(solutions, _heaviest(classes, votes), "no_answer")
    for rule in BY_SCORE:
        values = [getattr(score, rule) for score in scores]
        choices[rule] = _choice(solutions, _highest(values), "no_score")
    choices["weighted"] = _choice(
        solutions, _heaviest(classes, [score.mean for score in scores]), "no_score"
    )
    return Selection(problem_id=problem_id, candidates=tuple(row.id for row in solutions), choices=choices)


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
