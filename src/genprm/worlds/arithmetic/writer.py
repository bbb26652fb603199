"""A writer of solutions with habits: slips, misreadings, wrong operands, corrections, detours.

The same writer, with every rate at zero, gives the reference solutions. With its rates up it gives the
noisy corpus that the tiny policy is trained on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from genprm.records import Problem
from genprm.worlds.arithmetic.grammar import (
    ANSWER,
    ITEMS,
    RESTATED,
    Quantity,
    Relation,
    Scene,
    claim_text,
    evaluate,
    parse_problem,
    parse_step,
    quantity,
)
from genprm.worlds.arithmetic.problems import needed_quantities
from genprm.worlds.arithmetic.reasoning import known_values, need

MAX_STEPS = 9
# The operation of an expression whose operands are numbers or brackets.
_OPERATOR = re.compile(r" ([-+*/]) (?![^(]*\))")


@dataclass(frozen=True)
class Habits:
    """Rates of everything that a writer does beside the straight way.

    Attributes:
        misread: for each relation kind, how often its key word decides the operation.
        slip: a digit of a result is wrong.
        operand: another person's number, or a changed digit, is used.
        misquote: what is told of another person, or a number from there, is taken for this one.
        hasty: a step is written before somebody is worked out whose number it takes; a known number stands in for it.
        noun: a step on costs names another thing than the problem.
        early_answer: the last step is left out and the value before it is answered.
        correct_slip, correct_misread: how often an error of the kind is noticed later.
        restate, recheck: true but useless steps: a given said again, a step computed again.
        idle: a person beside the point is worked out too.
        any_order: the next person is any whose number can be worked out, not the first one told of.
    """

    misread: Mapping[str, float] = field(default_factory=dict)
    slip: float = 0.0
    operand: float = 0.0
    misquote: float = 0.0
    hasty: float = 0.0
    noun: float = 0.0
    early_answer: float = 0.0
    correct_slip: float = 0.0
    correct_misread: float = 0.0
    restate: float = 0.0
    recheck: float = 0.0
    idle: float = 0.0
    any_order: float = 0.0


CLEAN = Habits()
POLICY_HABITS = Habits(
    misread={
        "needs": 0.66, "spare": 0.62, "third": 0.2, "fewer": 0.1, "gave": 0.05, "more": 0.02, "times": 0.03,
        "twice": 0.03, "half": 0.06, "share": 0.06, "bought": 0.03, "both": 0.03, "boxes": 0.03,
    },
    slip=0.03, operand=0.03, noun=0.03, early_answer=0.03, correct_slip=0.5, correct_misread=0.22,
    restate=0.05, recheck=0.04, idle=0.6, any_order=0.15,
)  # fmt: skip
# The same with more of what a small model gets wrong: for exercises in reading, not for the policy.
CARELESS_HABITS = replace(
    POLICY_HABITS, operand=0.1, misquote=0.12, hasty=0.08, noun=0.1, early_answer=0.08
)
# Half of the numbers that steps quote are not those of the people whom they name.
MISREADING_HABITS = Habits(operand=0.3, misquote=0.4, hasty=0.3, noun=0.5, early_answer=0.25)


def reference_solution(problem: Problem) -> tuple[str, ...]:
    """The straight right solution of a problem: one step for each quantity on the way."""
    return tuple(write_solution(parse_problem(problem.text), random.Random(0), CLEAN))


def write_solution(
    scene: Scene,
    rng: random.Random,
    habits: Habits,
    kept: Sequence[str] = (),
    hint: tuple[Quantity, str] | None = None,
) -> list[str]:
    """A solution as the writer would give it.

    Args:
        kept: steps that stand already; the writer goes on after them.
        hint: what the next step computes, and the expression that a critique names for it.
    """
    return _Writer(scene, rng, habits, kept, hint).write()


class _Writer:
    def __init__(
        self,
        scene: Scene,
        rng: random.Random,
        habits: Habits,
        kept: Sequence[str],
        hint: tuple[Quantity, str] | None,
    ) -> None:
        self.scene, self.rng, self.habits, self.hint = scene, rng, habits, hint
        self.steps = list(kept)
        self.beliefs = known_values(scene, kept)
        self.redo: tuple[int, Quantity] | None = None
        self.together = rng.random() < (0.5 if habits is not CLEAN else 0.0)
        people = [q for q in needed_quantities(scene) if q.kind == "has" and len(q.who) == 1]
        self.goals = {q.who[0] for q in people}
        if rng.random() < habits.idle:
            self.goals = set(scene.relations)

    def write(self) -> list[str]:
        while len(self.steps) < MAX_STEPS:
            self._detour()
            if self._correct():
                if self.scene.question in self.beliefs:
                    break
                continue
            if self._hasten():
                if self.scene.question in self.beliefs:
                    break
                continue
            wanted = self._next() if self.hint is None else self.hint[0]
            early = wanted == self.scene.question and len(self.steps) >= 2 and self.hint is None
            if early and self.rng.random() < self.habits.early_answer:
                break
            self._compute(wanted)
            if wanted == self.scene.question:
                if self.redo is None:
                    break
                self.redo = (0, self.redo[1])
        return self._answer()

    def _answer(self) -> list[str]:
        claim = parse_step(self.steps[-1])
        value = 0 if claim is None or claim.value is None else claim.value
        self.steps[-1] += " " + ANSWER.format(V=value)
        return self.steps

    def _say(self, sentence: str) -> None:
        self.steps.append(f"Step {len(self.steps) + 1}: {sentence}")

    def _detour(self) -> None:
        """A true but useless step, now and then."""
        givens = [r for r in self.scene.relations.values() if r.kind == "given"]
        if givens and len(self.steps) < 3 and self.hint is None and self.rng.random() < self.habits.restate:
            relation = self.rng.choice(givens)
            self._say(RESTATED.format(S=relation.person, V=relation.number))

    def _correct(self) -> bool:
        """Write the correction that is due, and forget what was built on the wrong value."""
        if self.redo is None:
            return False
        delay, wanted = self.redo
        if delay > 0:
            self.redo = (delay - 1, wanted)
            return False
        self.redo = None
        truth = need(self.scene, wanted, self.beliefs)
        if truth is None:
            return False
        stale = self._dependents(wanted)
        self.beliefs = {q: v for q, v in self.beliefs.items() if q not in stale}
        self._state(wanted, truth.expression, "Wait, ", 0.0)
        return True

    def _dependents(self, wanted: Quantity) -> set[Quantity]:
        people = set(wanted.who) if wanted.kind == "has" and len(wanted.who) == 1 else set()
        for _ in self.scene.relations:
            people |= {r.person for r in self.scene.relations.values() if people & set(r.others)}
        given = {quantity("has", r.person) for r in self.scene.relations.values() if r.kind == "given"}
        stale = {q for q in self.beliefs if q not in given and people & set(q.who)} | {self.scene.question}
        return stale - {wanted}

    def _next(self) -> Quantity:
        """The next quantity: a person whose parents are known, then what the question needs."""
        known = {q.who[0] for q in self.beliefs if q.kind == "has" and len(q.who) == 1}
        open_people = [n for n in self.scene.relations if n in self.goals and n not in known]
        ready = [n for n in open_people if all(o in known for o in self.scene.relations[n].others)]
        if ready:
            first = self.rng.random() >= self.habits.any_order
            return quantity("has", ready[0] if first else self.rng.choice(ready))
        question = self.scene.question
        if question.kind == "cost" and len(question.who) == 2:
            if self.together:
                both = quantity("has", *question.who)
                return question if both in self.beliefs else both
            parts = [quantity("cost", n) for n in question.who]
            return next((p for p in parts if p not in self.beliefs), question)
        return question

    def _compute(self, wanted: Quantity) -> None:
        """Write the step for a quantity, right or wrong."""
        right = need(self.scene, wanted, self.beliefs)
        if right is None:
            raise AssertionError(f"{wanted} is not in the scene")
        if self._misquote(wanted):
            return
        expression, correct_rate = self._misled(wanted, right.expression)
        if self.hint is not None and self.rng.random() < 0.93:
            expression, correct_rate = self.hint[1], 0.0
        self.hint = None
        made_slip = self._state(wanted, expression, "", self.habits.slip)
        if made_slip:
            correct_rate = self.habits.correct_slip
        if self.rng.random() < correct_rate:
            self.redo = (self.rng.choices((0, 1), weights=(3, 1))[0], wanted)
        elif not correct_rate and self.rng.random() < self.habits.recheck and wanted != self.scene.question:
            self._state(wanted, expression, "Check, ", 0.0)

    def _misquote(self, wanted: Quantity) -> bool:
        """Now and then, write the step for a person from what is told of somebody else."""
        if (
            not self.habits.misquote
            or self.hint is not None
            or wanted.kind != "has"
            or len(wanted.who) != 1
        ):
            return False
        if self.rng.random() >= self.habits.misquote:
            return False
        told = self._told_otherwise(wanted.who[0])
        if told is None:
            return False
        person = told.person
        scene = replace(self.scene, relations={**self.scene.relations, person: told})
        found = need(scene, wanted, self.beliefs)
        if found is None or not _countable(evaluate(found.expression)):
            return False
        self._state(wanted, found.expression, "", 0.0, scene)
        return True

    def _told_otherwise(self, person: str) -> Relation | None:
        """Another's sentence with this person in it, or this person's with another's number; None where there is none."""
        own, others = self.scene.relations[person], self._others(person)
        if self.rng.random() < 0.5:
            numbers = [
                r.number for r in others if r.form.factor is None and r.number not in {0, own.number}
            ]
            fits = numbers and own.number and own.form.factor is None
            return replace(own, number=self.rng.choice(numbers)) if fits else None
        known = [
            r
            for r in others
            if r.kind not in {"given", own.kind}
            and person not in r.others
            and all(quantity("has", name) in self.beliefs for name in r.others)
        ]
        return replace(self.rng.choice(known), person=person) if known else None

    def _others(self, person: str) -> list[Relation]:
        return [r for r in self.scene.relations.values() if r.person != person]

    def _hasten(self) -> bool:
        """Now and then, write a step before all that it takes is known."""
        if not self.habits.hasty or self.hint is not None or self.rng.random() >= self.habits.hasty:
            return False
        open_ = [(wanted, missing) for wanted in self._later() if (missing := self._missing(wanted))]
        if not open_ or not self.beliefs:
            return False
        wanted, missing = self.rng.choice(open_)
        numbers = sorted(set(self.beliefs.values()))
        beliefs = {quantity("has", name): self.rng.choice(numbers) for name in missing} | self.beliefs
        found = need(self.scene, wanted, beliefs)
        if found is None or not _countable(evaluate(found.expression)):
            return False
        known, self.beliefs = self.beliefs, beliefs
        self._state(wanted, found.expression, "", 0.0)
        self.beliefs = known | {wanted: self.beliefs[wanted]}
        return True

    def _later(self) -> list[Quantity]:
        """Everything that a step can still compute: people, and what the question asks for."""
        people = [quantity("has", name) for name in self.scene.relations]
        question = self.scene.question
        parts = [quantity("cost", name) for name in question.who] if question.kind == "cost" else []
        return [wanted for wanted in (*people, *parts, question) if wanted not in self.beliefs]

    def _missing(self, wanted: Quantity) -> list[str]:
        """The people whose numbers a step takes, and nobody knows yet."""
        alone = wanted.kind == "has" and len(wanted.who) == 1
        names = self.scene.relations[wanted.who[0]].others if alone else wanted.who
        return [name for name in names if quantity("has", name) not in self.beliefs]

    def _misled(self, wanted: Quantity, expression: str) -> tuple[str, float]:
        """The expression that the writer comes to, and how likely an error in it is noticed later."""
        if wanted.kind == "has" and len(wanted.who) == 1:
            relation = self.scene.relations[wanted.who[0]]
            lure = relation.form.lure
            if lure and self.rng.random() < self.habits.misread.get(relation.kind, 0.0):
                misread = need(self.scene, wanted, self.beliefs, lure)
                if misread is not None and _countable(evaluate(misread.expression)):
                    return misread.expression, self.habits.correct_misread
        if self.rng.random() < self.habits.operand:
            changed = self._other_operand(expression)
            if changed != expression and _countable(evaluate(changed)):
                return changed, self.habits.correct_misread
        return expression, 0.0

    def _other_operand(self, expression: str) -> str:
        """The expression with another known number as an operand, or with a changed digit."""
        parts = expression.split()
        others = sorted({str(v) for v in self.beliefs.values()} - set(parts))
        place = 0 if self.rng.random() < 0.7 else -1
        if others and self.rng.random() < 0.6:
            parts[place] = self.rng.choice(others)
        elif parts[place].isdigit() and len(parts[place]) > 1:
            digit = str((int(parts[place][-1]) + self.rng.randint(1, 9)) % 10)
            parts[place] = parts[place][:-1] + digit
        return " ".join(parts)

    def _used(self, scene: Scene, wanted: Quantity, expression: str) -> dict[str, str]:
        """The number that an expression uses for each person whom its sentence names."""
        names = list(wanted.who)
        if wanted.kind == "has" and len(names) == 1:
            names = list(scene.relations[names[0]].others)
        elif wanted.kind == "gap":
            names.sort(key=lambda name: -self.beliefs.get(quantity("has", name), Fraction(0)))
        left, _, right = (
            _OPERATOR.split(expression, maxsplit=1) if _OPERATOR.search(expression) else (expression,) * 3
        )
        return dict(zip(names, (left, right), strict=False))

    def _state(
        self, wanted: Quantity, expression: str, opening: str, slip: float, told: Scene | None = None
    ) -> bool:
        """Write a step and believe it; tells whether a slip was made.

        Args:
            told: the scene as the step quotes it, where that is not the scene itself.
        """
        scene = told or self.scene
        if wanted.kind == "cost" and self.rng.random() < self.habits.noun:
            scene = replace(scene, item=self.rng.choice([item for item in ITEMS if item != scene.item]))
        parts = expression.split()
        worth = evaluate(expression)
        if worth is not None and worth < 0 and len(parts) == 3:
            expression = f"{parts[2]} - {parts[0]}"
            worth = evaluate(expression)
        value = int(worth or Fraction(0))
        made_slip = self.rng.random() < slip
        if made_slip:
            value = slipped(value, self.rng)
        sentence = claim_text(scene, wanted, expression, value, self._used(scene, wanted, expression))
        self._say(opening + (sentence.replace("The ", "the ", 1) if opening else sentence))
        self.beliefs[wanted] = Fraction(value)
        return made_slip


def _countable(value: Fraction | None) -> bool:
    """Whether someone who counts things would write this number down without wondering."""
    return value is not None and 0 < value < 2000 and value.denominator == 1


def slipped(value: int, rng: random.Random) -> int:
    """A number that someone who slips may write in place of the right one."""
    step = rng.choice((1, -1, 10, -10, 2, -2, 9, 11))
    return value + step if value + step > 0 else value + abs(step)


def quieter(habits: Habits, factor: float) -> Habits:
    """The same habits with every error rate multiplied by a factor."""
    return replace(
        habits,
        misread={kind: rate * factor for kind, rate in habits.misread.items()},
        slip=habits.slip * factor,
        operand=habits.operand * factor,
        misquote=habits.misquote * factor,
        hasty=habits.hasty * factor,
        noun=habits.noun * factor,
        early_answer=habits.early_answer * factor,
    )
