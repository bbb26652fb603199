"""The truth about a solution, computed from the text of the problem and of its steps.

The convention, in one place:

- a step is **right** when everything it states is true in the problem: each equation holds, each value
  is the quantity's true value, what it counts or pays for is what the problem speaks of, and a boxed
  answer is the problem's answer. What earlier steps said does
  not matter. So a step that builds on a wrong value is wrong too (`carried`), a later step that states
  the true value after a wrong one is right (`correction`), and a true step that nobody needs is right
  (`useless`);
- which route leads to a true value does not matter;
- the *first error* of a solution is its first wrong step (ProcessBench's convention), 0-based, -1 where
  there is none. A wrong step counts even where a later step corrects or bypasses it;
- a step that cannot be read, or that speaks of a quantity the problem does not have, is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from genprm.records import NO_ERROR, Problem
from genprm.worlds.arithmetic.grammar import (
    Claim,
    Quantity,
    Scene,
    apply,
    evaluate,
    operands,
    parse_problem,
    parse_step,
    person_values,
    quantity,
    true_value,
)
from genprm.worlds.arithmetic.problems import needed_quantities


class StepKind(StrEnum):
    """What a step is. The first four are right, all others are wrong."""

    OK = "ok"
    USELESS = "useless"
    RESTATED = "restated"
    CORRECTION = "correction"
    SLIP = "slip"
    WRONG_OPERATION = "wrong_operation"
    WRONG_OPERAND = "wrong_operand"
    WRONG_NOUN = "wrong_noun"
    CARRIED = "carried"
    WRONG_ANSWER = "wrong_answer"
    UNPARSABLE = "unparsable"


@dataclass(frozen=True, slots=True)
class StepTruth:
    """The truth about one step."""

    correct: bool
    kind: StepKind


RIGHT_KINDS = frozenset({StepKind.OK, StepKind.USELESS, StepKind.RESTATED, StepKind.CORRECTION})


def judge_solution(problem: Problem, steps: Sequence[str]) -> list[StepTruth]:
    """The truth about every step, in order (convention in the module's docstring).

    Raises:
        DataError: the problem is not one of this world.
    """
    return judge_steps(parse_problem(problem.text), steps)


def judge_steps(scene: Scene, steps: Sequence[str]) -> list[StepTruth]:
    """`judge_solution` for a scene that is parsed already."""
    judge = _Judge(scene)
    return [StepTruth(kind in RIGHT_KINDS, kind) for kind in map(judge.step, steps)]


def first_error(problem: Problem, steps: Sequence[str]) -> int:
    """0-based index of the first wrong step, or -1 where every step is right."""
    for index, truth in enumerate(judge_solution(problem, steps)):
        if not truth.correct:
            return index
    return NO_ERROR


Operation = tuple[str | None, Fraction, Fraction]


class _Judge:
    """Reads the steps of one solution in order and remembers the value last stated of each quantity."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.values = person_values(scene)
        self.answer = true_value(scene, scene.question, self.values)
        self.needed = needed_quantities(scene)
        self.stated: dict[Quantity, Fraction] = {
            quantity("has", r.person): self.values[r.person]
            for r in scene.relations.values()
            if r.kind == "given"
        }

    def step(self, text: str) -> StepKind:
        claim = parse_step(text)
        if claim is None:
            return StepKind.UNPARSABLE
        kind = StepKind.OK if claim.quantity is None else self._statement(claim, claim.quantity)
        if claim.quantity is not None and claim.value is not None:
            self.stated[claim.quantity] = Fraction(claim.value)
        if claim.answer is not None and kind in RIGHT_KINDS and claim.answer != self.answer:
            return StepKind.WRONG_ANSWER
        return kind

    def _statement(self, claim: Claim, wanted: Quantity) -> StepKind:
        if claim.item not in {None, self.scene.item}:
            return StepKind.WRONG_NOUN
        truth = true_value(self.scene, wanted, self.values)
        if truth is not None and claim.expression is None:
            return StepKind.RESTATED if claim.value == truth else StepKind.WRONG_OPERAND
        worth = None if claim.expression is None else evaluate(claim.expression)
        if truth is None or worth is None:
            return StepKind.UNPARSABLE
        if worth == claim.value == truth:
            return self._right(wanted, truth)
        return StepKind.SLIP if worth == truth else self._wrong(wanted, worth)

    def _right(self, wanted: Quantity, truth: Fraction) -> StepKind:
        """What a true computation is good for."""
        before = self.stated.get(wanted)
        if before is not None:
            return StepKind.RESTATED if before == truth else StepKind.CORRECTION
        return StepKind.OK if wanted in self.needed else StepKind.USELESS

    def _wrong(self, wanted: Quantity, worth: Fraction) -> StepKind:
        """Why an expression is not the needed one."""
        if worth in self._routes(wanted, self.stated):
            return StepKind.CARRIED
        for known in (self.stated, {}):
            if worth in self._other_operations(wanted, known):
                return StepKind.WRONG_OPERATION
        return StepKind.WRONG_OPERAND

    def _routes(self, wanted: Quantity, known: dict[Quantity, Fraction]) -> set[Fraction]:
        """Values that the right expressions have with the values stated so far."""
        return {apply(op, a, b) for op, a, b in self._pairs(wanted, known) if b or op != "/"}

    def _other_operations(self, wanted: Quantity, known: dict[Quantity, Fraction]) -> set[Fraction]:
        found = set()
        for right, left_value, right_value in self._pairs(wanted, known):
            for op in "+-*/":
                for a, b in ((left_value, right_value), (right_value, left_value)):
                    if (op, a) != (right, left_value) and (b or op != "/"):
                        found.add(apply(op, a, b))
        return found

    def _pairs(self, wanted: Quantity, known: dict[Quantity, Fraction]) -> list[Operation]:
        """The right operations on stated (else true) values, one for each route to the quantity."""
        people = {n: known.get(quantity("has", n), v) for n, v in self.values.items()}
        numbers = [people[n] for n in wanted.who]
        if wanted.kind == "gap":
            return [("-", max(numbers), min(numbers))]
        if wanted.kind == "has" and len(numbers) == 2:
            return [("+", numbers[0], numbers[1])]
        if wanted.kind == "has":
            relation = self.scene.relations[wanted.who[0]]
            return [(relation.form.operator, *operands(relation, people))]
        price = Fraction(self.scene.price or 0)
        if len(numbers) == 1:
            return [("*", numbers[0], price)]
        together = known.get(quantity("has", *wanted.who), sum(numbers, Fraction(0)))
        costs = [known.get(quantity("cost", n), people[n] * price) for n in wanted.who]
        return [("*", together, price), ("+", costs[0], costs[1])]
