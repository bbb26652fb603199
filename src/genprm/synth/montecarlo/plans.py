"""Which states are sampled, and how often: four plans, all pure functions of the counts so far.

A plan is asked again after every batch, about every solution of a problem, until no solution wants more. So what is
sampled depends on counts alone, not on the order in which samples arrive, and solutions that share states share their
samples. The last step of a solution is never sampled: its own answer decides.

- `fixed`, `dynamic`: K samples of every state, step after step. Once MC is 0, later steps are 0 without samples.
- `sequential`: step after step, the states on both sides of a step get batches until its label is decided
  (`genprm.labels.outlook`); after the first step that is False nothing is sampled.
- `binary`: of a solution with a wrong answer, the states that a binary search for the first error judges
  (`genprm.labels.search`), in the same batches. If the answer is right, or nobody knows, nothing says that what follows
  an error is bad as well: then as `sequential`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from genprm.config.models import LabelConfig, MonteCarloConfig
from genprm.labels import TEACHER, locate, outlook
from genprm.records import Solution, StepLabel, StepScore

State: TypeAlias = tuple[str, ...]
"""The steps so far; empty for s_1, the problem alone."""
NOTHING = StepScore(correct=0, total=0)
SKIPPED = StepScore(correct=0, total=0, origin="skipped")


@dataclass(slots=True)
class Known:
    """What has been sampled of a problem's states: counts, and how many samples were asked for."""

    scores: dict[State, StepScore] = field(default_factory=dict)
    drawn: dict[State, int] = field(default_factory=dict)

    def of(self, solution: Solution, steps: int) -> StepScore:
        """The counts of the state after so many steps, or the solution's own answer."""
        if steps == len(solution.steps):
            return own_answer(solution)
        return self.scores.get(solution.steps[:steps], NOTHING)

    def left(self, solution: Solution, steps: int, k: int) -> int:
        """Samples of that state that are still to be drawn out of K."""
        if steps == len(solution.steps):
            return 0
        return max(k - self.drawn.get(solution.steps[:steps], 0), 0)


class Plan(Protocol):
    """Decides which samples a solution needs, given those of its states that were drawn."""

    def k(self, start: float) -> int:
        """K for a problem with this MC(s_1)."""
        ...

    def wanted(self, solution: Solution, known: Known, k: int) -> Mapping[State, int]:
        """States, and how many samples of each there should be altogether, at most K; empty once settled."""
        ...

    def scores(self, solution: Solution, known: Known) -> tuple[StepScore, ...]:
        """The score of every step once all solutions are settled."""
        ...


def make_plan(options: MonteCarloConfig, rule: LabelConfig) -> Plan:
    """The plan that the options name."""
    if options.estimator == "sequential":
        return Sequential(options, rule)
    return Binary(options, rule) if options.estimator == "binary" else EveryState(options)


def choose_k(start: float, options: MonteCarloConfig) -> int:
    """K by the completer's Pass@1 (equation 9); `fixed` has one K."""
    if options.estimator == "fixed":
        return options.k_start
    if start < options.hard_below:
        return options.k_hard
    return options.k_medium if start < options.easy_from else options.k_easy


def own_answer(solution: Solution) -> StepScore:
    """MC of the last step: nothing is left to complete."""
    if solution.correct is None:
        return StepScore(correct=0, total=0, failed=1, origin="answer")
    return StepScore(correct=int(solution.correct), total=1, origin="answer")


@dataclass(frozen=True, slots=True)
class EveryState:
    """K samples of every state up to the first one with MC = 0, and of s_1, the one denominator of all first steps."""

    options: MonteCarloConfig

    def k(self, start: float) -> int:
        """See `Plan`."""
        return choose_k(start, self.options)

    def wanted(self, solution: Solution, known: Known, k: int) -> Mapping[State, int]:
        """See `Plan`."""
        wanted: dict[State, int] = {(): k} if known.left(solution, 0, k) and len(solution.steps) > 1 else {}
        for steps in range(1, len(solution.steps)):
            if known.left(solution, steps, k):
                return {**wanted, solution.steps[:steps]: k}
            if known.of(solution, steps).value == 0:
                break
        return wanted

    def scores(self, solution: Solution, known: Known) -> tuple[StepScore, ...]:
        """See `Plan`."""
        scores: list[StepScore] = []
        for steps in range(1, len(solution.steps) + 1):
            if scores and scores[-1].value == 0:
                scores.append(StepScore(correct=0, total=0, origin="zero_rule"))
            else:
                scores.append(known.of(solution, steps))
        return tuple(scores)


@dataclass(frozen=True, slots=True)
class _ByRule:
    """What the plans have in common whose samples serve one label rule."""

    options: MonteCarloConfig
    rule: LabelConfig

    def k(self, start: float) -> int:
        """See `Plan`."""
        return choose_k(start, self.options)

    def scores(self, solution: Solution, known: Known) -> tuple[StepScore, ...]:
        """See `Plan`."""
        return tuple(
            SKIPPED if found is NOTHING else found
            for found in (known.of(solution, steps) for steps in range(1, len(solution.steps) + 1))
        )

    def decided(self, solution: Solution, known: Known, sides: tuple[int, int], k: int) -> StepLabel | None:
        """The label between two states of a solution, or None if more samples might well change it."""
        left = known.left(solution, sides[0], k), known.left(solution, sides[1], k)
        found = outlook(known.of(solution, sides[0]), known.of(solution, sides[1]), left, self.rule)
        return found.label if found.stays >= self.options.confidence else None

    def more(self, solution: Solution, known: Known, sides: tuple[int, int], k: int) -> dict[State, int]:
        """A batch more of the state that has fewer samples; of both if they have as many."""
        needed = sides[1:] if self.rule.method == "hard" else sides
        states = [solution.steps[:steps] for steps in needed if known.left(solution, steps, k)]
        fewest = min(known.drawn.get(state, 0) for state in states)
        size = min(fewest + self.options.batch, k)
        return {state: size for state in states if known.drawn.get(state, 0) == fewest}


@dataclass(frozen=True, slots=True)
class Sequential(_ByRule):
    """Batches until each label is decided, step after step, up to the first error."""

    def wanted(self, solution: Solution, known: Known, k: int) -> Mapping[State, int]:
        """See `Plan`."""
        for steps in range(1, len(solution.steps) + 1):
            sides = steps - 1, steps
            label = self.decided(solution, known, sides, k)
            if label is None:
                return self.more(solution, known, sides, k)
            if not label.label and label.reason != TEACHER:
                break
        return {}


@dataclass(frozen=True, slots=True)
class Binary(Sequential):
    """Batches until each label that a binary search asks for is decided."""

    def wanted(self, solution: Solution, known: Known, k: int) -> Mapping[State, int]:
        """See `Plan`."""
        if solution.correct is not False:
            return Sequential.wanted(self, solution, known, k)  # slots: no super()
        wanted: dict[State, int] = {}

        def judge(good: int, asked: int) -> bool | None:
            label = self.decided(solution, known, (good, asked), k)
            if label is None:
                wanted.update(self.more(solution, known, (good, asked), k))
            return None if label is None else label.label

        locate(len(solution.steps), judge)
        return wanted
