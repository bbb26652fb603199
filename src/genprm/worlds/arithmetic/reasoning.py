"""What a step needs: the relation it depends on, the operands' values, the expression they make and its value.

A derivation never looks at what the step claims; the conclusion then compares the two. These sentences are the
tutor's analyses and, through the tutor, what a verifier of this world is trained to write; the pretraining's
exercises derive, and compare plain sums, but never conclude about a step.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from genprm.worlds.arithmetic.grammar import (
    Claim,
    Quantity,
    Relation,
    Scene,
    evaluate,
    parse_step,
    quantity,
    quoted,
)

AGREES = ("The code agrees.", "The output is as claimed.")
DIFFERS = ("The code disagrees.", "The output is not as claimed.")
NEEDS = ("So {}.", "This needs {}.")
SAYS = "The step has {}."
FITS = ("The step has {}, so this agrees.", "The step has {}: equal.")
CLASHES = ("The step has {}, so this is wrong.", "The step has {}: not equal.")


class Need(NamedTuple):
    """How a quantity is to be computed: facts in words, and the expression with numbers."""

    facts: tuple[str, ...]
    expression: str

    @property
    def value(self) -> Fraction | None:
        """What the expression comes to; None where it is no sum or divides by zero."""
        return evaluate(self.expression)

    def text(self, rng: random.Random, value: Fraction | None = None) -> str:
        """The facts, and the expression with its value, in one of the wordings.

        Args:
            value: what the writer believes the expression comes to; its true value if not given.
        """
        worth = self.value if value is None else value
        return " ".join([*self.facts, rng.choice(NEEDS).format(_equation(self.expression, worth))])


def _equation(expression: str, value: Fraction | None) -> str:
    """The expression with its value, where it is one operation or more and the value is a whole number."""
    if expression.startswith("'"):
        return expression.strip("'")
    if value is None or value.denominator != 1:
        return f"{expression}, not whole"
    return expression if expression == str(value) else f"{expression} = {value}"


def known_values(scene: Scene, steps: Sequence[str]) -> dict[Quantity, Fraction]:
    """What can be read off the problem and the earlier steps: givens, then the last stated values."""
    known = {
        quantity("has", r.person): Fraction(r.number) for r in scene.relations.values() if r.kind == "given"
    }
    for step in steps:
        claim = parse_step(step)
        if claim is not None and claim.quantity is not None and claim.value is not None:
            known[claim.quantity] = Fraction(claim.value)
    return known


def need(
    scene: Scene, wanted: Quantity, known: Mapping[Quantity, Fraction], operator: str | None = None
) -> Need | None:
    """The need for a quantity; None where the scene does not have it.

    Args:
        known: values that may be used; an operand that is not among them is written out as an
            expression in brackets.
        operator: replaces the right operation of a person's relation (a misreading).
    """
    if any(name not in scene.relations for name in wanted.who):
        return None
    if wanted.kind == "has" and len(wanted.who) == 1:
        return _person_need(scene, scene.relations[wanted.who[0]], known, operator)
    if wanted.kind == "has":
        return _pair_need(scene, wanted, known, operator or "+")
    if wanted.kind == "gap":
        return _pair_need(scene, wanted, known, operator or "-")
    if scene.price is None:
        return None
    return _cost_need(scene, wanted, known, operator)


def _operand(scene: Scene, name: str, known: Mapping[Quantity, Fraction]) -> str:
    """A person's number as text: the value where it is known, else an expression in brackets."""
    value = known.get(quantity("has", name))
    if value is not None:
        return str(value)
    return f"({_person_need(scene, scene.relations[name], known, None).expression})"


def _person_need(
    scene: Scene, relation: Relation, known: Mapping[Quantity, Fraction], operator: str | None
) -> Need:
    values = {name: _operand(scene, name, known) for name in relation.others}
    fact = f"Here {quoted(scene, relation, values)}."
    if relation.kind == "given":
        return Need((fact,), str(relation.number))
    op = operator or relation.form.operator
    if relation.kind == "boxes":
        return Need((fact,), f"{relation.count} {op} {relation.number}")
    left = values[relation.others[0]]
    right = values[relation.others[1]] if relation.kind == "both" else str(relation.number)
    return Need((fact,), f"{left} {op} {right}")


def _pair_need(scene: Scene, wanted: Quantity, known: Mapping[Quantity, Fraction], op: str) -> Need:
    names = list(wanted.who)
    values = {name: _operand(scene, name, known) for name in names}
    if op == "-" and all(v.isdigit() for v in values.values()):
        names.sort(key=lambda name: -int(values[name]))
    first, last = names
    fact = (
        f"Together {first} = {values[first]} and {last} = {values[last]}."
        if wanted.kind == "has"
        else f"Compare {first} = {values[first]} and {last} = {values[last]}."
    )
    return Need((fact,), f"{values[first]} {op} {values[last]}")


def _cost_need(
    scene: Scene, wanted: Quantity, known: Mapping[Quantity, Fraction], operator: str | None
) -> Need:
    price = _price(scene)
    op = operator or "*"
    if len(wanted.who) == 1:
        value = _operand(scene, wanted.who[0], known)
        return Need((price, f"Here {wanted.who[0]} = {value}."), f"{value} {op} {scene.price}")
    costs = [known.get(quantity("cost", name)) for name in wanted.who]
    together = known.get(quantity("has", *wanted.who))
    first, second = wanted.who
    if together is None and all(cost is not None for cost in costs):
        return Need(
            (f"Add the costs of the {scene.item} of {first} and {second}.",),
            f"{costs[0]} {operator or '+'} {costs[1]}",
        )
    value = (
        str(together)
        if together is not None
        else f"({_operand(scene, first, known)} + {_operand(scene, second, known)})"
    )
    return Need((price, f"Together {first} and {second}."), f"{value} {op} {scene.price}")


def _price(scene: Scene) -> str:
    return f"The {scene.item} cost {scene.price} each."


def asked_text(wanted: Quantity) -> str:
    """The question in a few words."""
    who = " and ".join(wanted.who)
    if wanted.kind == "gap":
        return f"Asked: the gap between {who}."
    if wanted.kind == "cost":
        return f"Asked: the cost of {who}."
    return f"Asked: {who} together." if len(wanted.who) == 2 else f"Asked: {who}."


class Plan(NamedTuple):
    """What to check about one step.

    Attributes:
        lead: what the analysis says before it derives anything.
        need: the derivation.
        claimed: what the step says it comes to, as code writes it: a number, two with `==` between them
            where the step gives another answer than its value, or a quoted noun.
    """

    lead: str
    need: Need
    claimed: str

    def analysis(self, rng: random.Random, value: Fraction | None = None) -> str:
        """The derivation, blind to the step's claim, then the comparison with it.

        Args:
            value: what the writer believes the derivation comes to; its true value if not given.
        """
        derived = self.need.value if value is None else value
        said = self.claimed.split(" == ")
        fits = all(evaluate(one) == derived is not None for one in said)
        return f"{self.lead}{self.need.text(rng, derived)} {conclusion(fits, said, rng)}"

    @property
    def check(self) -> str:
        """The comparison as code writes it."""
        return f"{self.need.expression} == {self.claimed}"


def conclusion(fits: bool, said: Sequence[str], rng: random.Random) -> str:
    """The sentence that compares what was derived with what a step says (one value, or a value and an answer)."""
    return rng.choice(FITS if fits else CLASHES).format(_spoken(said))


def saying(plan: Plan) -> str:
    """What the step says, without a comparison."""
    return SAYS.format(_spoken(plan.claimed.split(" == ")))


def _spoken(said: Sequence[str]) -> str:
    return " and answer ".join(one.strip("'") for one in said)


def plan_check(
    scene: Scene, claim: Claim, known: Mapping[Quantity, Fraction], answer: Fraction
) -> Plan | None:
    """How to check a claim: which need to state and which number to compare it with.

    A step that names another thing than the problem is checked for that alone. An answer is checked against the
    question first: where the step computes something else than what is asked, the need is the question's. None where
    the claim speaks of nothing the scene has.
    """
    lead, wanted = "", claim.quantity
    if claim.item not in {None, scene.item} and scene.price is not None:
        return Plan(lead, Need((_price(scene),), f"'{scene.item}'"), f"'{claim.item}'")
    if claim.answer is not None:
        lead = asked_text(scene.question) + " "
        if wanted is None or (wanted != scene.question and claim.answer != answer):
            lead, wanted = (lead if wanted is None else f"{lead[:-2]}, not this. "), scene.question
            found = need(scene, wanted, known)
            return None if found is None else Plan(lead, found, str(claim.answer))
    found = None if wanted is None else need(scene, wanted, known)
    if found is None or claim.value is None:
        return None
    wrong_box = claim.answer is not None and claim.answer != claim.value
    claimed = f"{claim.value} == {claim.answer}" if wrong_box else str(claim.value)
    if claim.expression is not None and found.value == claim.value != evaluate(claim.expression):
        # The value is right and the step's own expression is not: that is what has to be looked at.
        found = Need((), claim.expression)
    return Plan(lead, found, claimed)
