"""Best-of-N by solution score, weighted voting, and their baselines (method, policy test-time scaling).

Accuracies at N are expectations over all ordered draws of N of a problem's M samples without replacement, not the
outcome of one draw: they use every sample and have no sampling noise of their own. They are exact, except that
weighted voting with more than `EXACT_DRAWS` ways to draw is the mean over so many seeded random draws. Ties, between
scores or between answers, go to the candidate that was drawn first.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from genprm.records import SelectionRule, SolutionScore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Score = Literal["last", "mean", "min", "prod"]
METHODS: tuple[SelectionRule, ...] = get_args(SelectionRule)
WEIGHTED_BY: Score = "mean"
"""The score that weighted voting adds up."""
EXACT_DRAWS = 20_000
"""Ways to draw up to which weighted voting looks at all of them; M = 16 never has more than 12,870."""
_SCORES: tuple[Literal["last", "mean", "min"], ...] = ("last", "mean", "min")
_TIE = 1e-9
"""Totals of scores that differ by less are equal: the order in which scores are added up rounds them differently."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled solution of a problem.

    Attributes:
        answer: names its answer's class of equal answers; None when it has no answer, which can be drawn but never
            wins a vote.
        correct: whether it is right; None when it could not be graded.
        score: its solution score; a method's field is None when it is unknown. Unscored candidates are chosen only
            when nothing scored was drawn.
    """

    answer: str | None
    correct: bool | None
    score: SolutionScore = field(default_factory=SolutionScore)


def select(candidates: Sequence[Candidate], by: Score = "min") -> int | None:
    """Index of the best-scored candidate, the first of equals; None when none has a score."""
    best: tuple[float, int] | None = None
    for index, candidate in enumerate(candidates):
        score = getattr(candidate.score, by)
        if score is not None and (best is None or score > best[0]):
            best = (score, index)
    return None if best is None else best[1]


def majority_vote(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer, of equals the one that occurs first; None when there is no answer."""
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts, key=counts.__getitem__) if counts else None


def weighted_vote(candidates: Sequence[Candidate], by: Score = WEIGHTED_BY) -> str | None:
    """The answer with the largest sum of scores, of equals the one that occurs first.

    Candidates without a score or without an answer count for nothing; None when no other is left.
    """
    weights: dict[str, float] = {}
    for candidate in candidates:
        score = getattr(candidate.score, by)
        if score is not None and candidate.answer is not None:
            weights[candidate.answer] = weights.get(candidate.answer, 0.0) + score
    return heaviest(weights)


def heaviest(totals: Mapping[str, float]) -> str | None:
    """The name with the largest total, the first of equals; None when there is none."""
    most = max(totals.values(), default=0.0)
    return next((name for name, total in totals.items() if total >= most - _TIE), None)


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Expected accuracies.

    Attributes:
        rows: N -> for each problem with at least N graded candidates: method -> probability of a right answer.
            Methods are `METHODS`.
        problems: problems given.
        ungraded: candidates left out because it is unknown whether they are right.
        unscored: graded candidates without a score.
    """

    rows: dict[int, list[dict[SelectionRule, float]]]
    problems: int
    ungraded: int = 0
    unscored: int = 0

    @property
    def evaluated(self) -> dict[int, int]:
        """N -> problems with at least N graded candidates, over which `table` averages."""
        return {n: len(rows) for n, rows in self.rows.items()}

    @property
    def table(self) -> dict[int, dict[SelectionRule, float | None]]:
        """N -> method -> percent of problems answered right; None when no problem had N graded candidates."""
        return {
            n: {
                method: 100 * math.fsum(row[method] for row in rows) / len(rows) if rows else None
                for method in METHODS
            }
            for n, rows in self.rows.items()
        }


def expected_accuracies(
    problems: Sequence[Sequence[Candidate]], ns: Sequence[int] = (1, 2, 4, 8, 16), *, seed: int = 0
) -> BestOfN:
    """Expected accuracy at each N of Best-of-N by last / mean / min, of weighted voting and of the baselines.

    `seed` decides the draws of weighted voting when there are too many to look at all.
    """
    graded = [[c for c in candidates if c.correct is not None] for candidates in problems]
    return BestOfN(
        rows={
            n: [accuracies(candidates, n, seed=seed) for candidates in graded if len(candidates) >= n]
            for n in ns
        },
        problems=len(problems),
        ungraded=sum(len(candidates) for candidates in problems) - sum(map(len, graded)),
        unscored=sum(c.score.last is None for candidates in graded for c in candidates),
    )


def accuracies(candidates: Sequence[Candidate], n: int, *, seed: int = 0) -> dict[SelectionRule, float]:
    """Each method's probability of a right answer from a random draw of n of these graded candidates.

    Raises `ValueError` unless 1 <= n <= the number of candidates.
    """
    m = len(candidates)
    if not 1 <= n <= m:
        raise ValueError(f"cannot draw {n} of {m} candidates")
    right = sum(bool(c.correct) for c in candidates)
    result: dict[SelectionRule, float] = {
        "pass@1": right / m,
        "majority": _majority(candidates, n),
        "weighted": _weighted(candidates, n, seed),
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


def _weighted(candidates: Sequence[Candidate], n: int, seed: int) -> float:
    """The chance that weighted voting gives a right answer.

    Of tied answers each wins as often as its candidates are drawn first: in proportion to how many of its voters are
    in the draw. A draw without a voter gives its first candidate, as Best-of-N does.
    """
    import numpy as np

    scores = [getattr(c.score, WEIGHTED_BY) for c in candidates]
    voters = [c.answer if score is not None else None for c, score in zip(candidates, scores, strict=True)]
    answers = sorted({answer for answer in voters if answer is not None})
    draws = _draws(len(candidates), n, seed).astype(np.float64)
    votes = np.array([[float(voter == answer) for answer in answers] for voter in voters])
    weights = np.array([0.0 if score is None else score for score in scores])
    right = np.array([float(bool(c.correct)) for c in candidates])
    in_class = [[c.correct for c in candidates if c.answer == answer] for answer in answers]
    class_right = np.array([sum(map(bool, flags)) / len(flags) for flags in in_class])

    first = draws @ right / n
    if not answers:
        return float(first.mean())
    drawn, totals = draws @ votes, draws @ (votes * weights[:, None])
    totals[drawn == 0] = -np.inf
    tied = drawn * (totals >= totals.max(axis=1, keepdims=True) - _TIE) * (drawn > 0)
    voted = tied.sum(axis=1)
    chance = tied @ class_right / np.maximum(voted, 1)
    return float(np.where(voted > 0, chance, first).mean())


@lru_cache(maxsize=16)
def _draws(m: int, n: int, seed: int) -> npt.NDArray[np.bool_]:
    """All draws of n of m candidates as rows of flags, or `EXACT_DRAWS` random ones when there are more."""
    import numpy as np

    if math.comb(m, n) <= EXACT_DRAWS:
        chosen = np.array(list(itertools.combinations(range(m), n)))
    else:
        chosen = np.random.default_rng(seed).random((EXACT_DRAWS, m)).argpartition(n - 1, axis=1)[:, :n]
    flags = np.zeros((len(chosen), m), dtype=np.bool_)
    np.put_along_axis(flags, chosen, True, axis=1)
    return flags
