"""Best-of-N by solution score, and its baselines (method, policy test-time scaling).

Accuracies at N are exact expectations over all ordered draws of N of a problem's M samples without
replacement, not the outcome of one draw: they use every sample and have no sampling noise of their own.
Ties, between scores or between answer counts, go to the candidate that was drawn first; in expectation
that splits them evenly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from genprm.records import SolutionScore

Score = Literal["last", "mean", "min", "prod"]
METHODS = ("pass@1", "majority", "last", "mean", "min", "pass@n")
_SCORES: tuple[Score, ...] = ("last", "mean", "min")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled solution of a problem.

    Attributes:
        answer: the canonical string of its answer's equivalence class; None where it has no answer,
            which can be drawn but never wins a vote.
        correct: whether it is right; None where it could not be graded.
        score: its solution score; a method's field is None where it is unknown. Unscored candidates
            are chosen only where nothing scored was drawn.
    """

    answer: str | None
    correct: bool | None
    score: SolutionScore = field(default_factory=SolutionScore)


def select(candidates: Sequence[Candidate], by: Score = "min") -> int | None:
    """Index of the best-scored candidate, the first of equals; None where none has a score."""
    best: tuple[float, int] | None = None
    for index, candidate in enumerate(candidates):
        score = getattr(candidate.score, by)
        if score is not None and (best is None or score > best[0]):
            best = (score, index)
    return None if best is None else best[1]


def majority_vote(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer, of equals the one that occurs first; None where there is no answer."""
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts, key=counts.__getitem__) if counts else None


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Accuracies in percent.

    Attributes:
        table: N -> method -> percent; methods are `METHODS`. None where no problem had N candidates.
        problems: problems given.
        evaluated: N -> problems with at least N graded candidates, over which `table` averages.
        ungraded: candidates left out because it is unknown whether they are right.
        unscored: graded candidates without a score.
    """

    table: dict[int, dict[str, float | None]]
    problems: int
    evaluated: dict[int, int] = field(default_factory=dict)
    ungraded: int = 0
    unscored: int = 0


def evaluate(problems: Sequence[Sequence[Candidate]], ns: Sequence[int] = (1, 2, 4, 8, 16)) -> BestOfN:
    """Expected accuracy at each N of Best-of-N by last / mean / min and of the baselines."""
    graded = [[c for c in candidates if c.correct is not None] for candidates in problems]
    table: dict[int, dict[str, float | None]] = {}
    evaluated = {}
    for n in ns:
        rows = [accuracies(candidates, n) for candidates in graded if len(candidates) >= n]
        evaluated[n] = len(rows)
        table[n] = {
            method: 100.0 * math.fsum(row[method] for row in rows) / len(rows) if rows else None
            for method in METHODS
        }
    return BestOfN(
        table=table,
        problems=len(problems),
        evaluated=evaluated,
        ungraded=sum(len(candidates) for candidates in problems) - sum(map(len, graded)),
        unscored=sum(c.score.last is None for candidates in graded for c in candidates),
    )


def accuracies(candidates: Sequence[Candidate], n: int) -> dict[str, float]:
    """Each method's probability of a right answer from a random draw of n of these graded candidates."""
    m = len(candidates)
    if not 1 <= n <= m:
        raise ValueError(f"cannot draw {n} of {m} candidates")
    right = sum(bool(c.correct) for c in candidates)
    result = {
        "pass@1": right / m,
        "majority": _majority(candidates, n),
        "pass@n": 1.0 - math.comb(m - right, n) / math.comb(m, n),
    }
    for by in _SCORES:
        result[by] = _best(candidates, n, by)
    return {method: result[method] for method in METHODS}


def _best(candidates: Sequence[Candidate], n: int, by: Score) -> float:
    """Sum over scores: the chance that the draw's best has it, times the share of right ones with it."""
    groups: dict[float, list[bool]] = {}
    for candidate in candidates:
        score = getattr(candidate.score, by)
        groups.setdefault(-math.inf if score is None else score, []).append(bool(candidate.correct))
    total, expected = math.comb(len(candidates), n), 0.0
    at_most = len(candidates)
    for score in sorted(groups, reverse=True):
        group = groups[score]
        below = at_most - len(group)
        chance = (math.comb(at_most, n) - math.comb(below, n)) / total
        expected += chance * sum(group) / len(group)
        at_most = below
    return expected


def _majority(candidates: Sequence[Candidate], n: int) -> float:
    """The chance that a right answer wins the vote, ties split evenly.

    For each answer and each count k that it may reach, the ways to draw the others so that none exceeds
    k are counted by (drawn so far, answers that tie at k).
    """
    counts = Counter(c.answer for c in candidates)
    blank = counts.pop(None, 0)
    right = Counter(c.answer for c in candidates if c.correct and c.answer is not None)
    total = math.comb(len(candidates), n)
    expected = 0.0
    for answer, correct in right.items():
        others = [size for name, size in counts.items() if name != answer]
        wins = 0.0
        for k in range(1, min(counts[answer], n) + 1):
            wins += math.comb(counts[answer], k) * _ways(others, blank, n - k, k)
        expected += wins / total * correct / counts[answer]
    return expected


def _ways(others: Sequence[int], blank: int, left: int, k: int) -> float:
    """Ways to draw `left` candidates with no other answer above k, each weighted by 1 / (ties + 1)."""
    state: dict[tuple[int, int], int] = {(0, 0): 1}
    for size in others:
        grown: dict[tuple[int, int], int] = {}
        for (drawn, ties), ways in state.items():
            for take in range(min(size, k, left - drawn) + 1):
                key = (drawn + take, ties + (take == k))
                grown[key] = grown.get(key, 0) + ways * math.comb(size, take)
        state = grown
    return sum(ways * math.comb(blank, left - drawn) / (ties + 1) for (drawn, ties), ways in state.items())
