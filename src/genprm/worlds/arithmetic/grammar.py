"""The language of the arithmetic world: what its problems and steps can say, written and read.

A problem is a *scene*: people who own things, one relation for each person, sometimes a price, and a
question. Everything is written from one table (`RELATIONS`) and read back by regular expressions made
from the same table, so that the truth of a step can be computed from the text alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, NamedTuple

from genprm.errors import DataError

NAMES = (
    "Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal",
    "Ida", "Jon", "Kim", "Leo", "Mia", "Ned", "Oda", "Pam",
)  # fmt: skip
ITEMS = ("apples", "pens", "cards", "books", "shells", "stamps", "eggs", "beads", "cups", "nuts")
PLACES = ("At the market,", "At school,", "On the farm,", "At the fair,", "In the club,", "At home,")

Operator = Literal["+", "-", "*", "/"]


@dataclass(frozen=True, slots=True)
class RelationForm:
    """One way in which a person's number can be told.

    Attributes:
        text: the sentence of the problem; S is the person, O and P are others, N and M numbers, I the item.
        operator: the operation that the sentence asks for; None for a plain given.
        lure: the operation that its key word suggests to a careless reader; None where there is no lure.
        factor: the number that a word stands for (twice, half, ...).
    """

    text: str
    operator: Operator | None
    lure: Operator | None = None
    factor: int | None = None

    @property
    def short(self) -> str:
        """The sentence without the item and the full stop, as an analysis quotes it."""
        return self.text.replace(" of the {I}", "").replace(" {I}", "").rstrip(".")


RELATIONS: dict[str, RelationForm] = {
    "given": RelationForm("{S} owns {N} {I}.", None),
    "boxes": RelationForm("{S} has {M} boxes with {N} {I} each.", "*", "+"),
    "more": RelationForm("{S} has {N} more {I} than {O}.", "+", "-"),
    "fewer": RelationForm("{S} has {N} fewer {I} than {O}.", "-", "+"),
    "times": RelationForm("{S} has {N} times as many {I} as {O}.", "*", "+"),
    "twice": RelationForm("{S} has twice as many {I} as {O}.", "*", "+", 2),
    "half": RelationForm("{S} has half as many {I} as {O}.", "/", "*", 2),
    "third": RelationForm("{S} has a third as many {I} as {O}.", "/", "*", 3),
    "share": RelationForm("{S} has one of {N} equal shares of the {I} of {O}.", "/", "-"),
    "gave": RelationForm("{S} had as many {I} as {O} but gave away {N}.", "-", "+"),
    "bought": RelationForm("{S} had as many {I} as {O} and bought {N}.", "+", "*"),
    "needs": RelationForm("{S} needs {N} more {I} to have as many as {O}.", "-", "+"),
    "spare": RelationForm("{S} could give away {N} {I} to have as many as {O}.", "+", "-"),
    "both": RelationForm("{S} has as many {I} as {O} and {P} together.", "+", "-"),
}

QUESTIONS: dict[str, str] = {
    "value": "How many {I} does {S} have?",
    "sum": "How many {I} do {S} and {T} have together?",
    "gap": "How many more {I} does {S} have than {T}?",
    "cost": "How many coins do the {I} of {S} cost?",
    "costsum": "How many coins do the {I} of {S} and {T} cost together?",
}
PRICE = "Each of the {I} costs {N} coins."
ANSWER = "The answer is \\boxed{{{V}}}."

_SLOTS = dict.fromkeys("SOPT", "[A-Z][a-z]+") | dict.fromkeys("NMVR", r"\d+")
_SLOTS |= {"I": "[a-z]+", "E": r"[\d+\-*/(). ]+"} | dict.fromkeys("AB", r"[\d+\-*/() ]+")


def _pattern(template: str) -> re.Pattern[str]:
    """A regular expression with one named group for each slot of a template."""
    escaped = re.escape(template)
    return re.compile(re.sub(r"\\\{([A-Z])\\\}", lambda m: f"(?P<{m[1]}>{_SLOTS[m[1]]})", escaped))


_RELATION_PATTERNS = {kind: _pattern(form.text) for kind, form in RELATIONS.items()}
_QUESTION_PATTERNS = {kind: _pattern(text) for kind, text in QUESTIONS.items()}
_PRICE_PATTERN = _pattern(PRICE)


class Quantity(NamedTuple):
    """What a step or a question speaks about.

    Attributes:
        kind: `has` (what people own, together where there are two), `gap` (between two), `cost` in coins.
        who: one or two names, in alphabetical order.
    """

    kind: Literal["has", "gap", "cost"]
    who: tuple[str, ...]


def quantity(kind: Literal["has", "gap", "cost"], *who: str) -> Quantity:
    """A quantity with its names in order, so that "Bob and Ann" equals "Ann and Bob"."""
    return Quantity(kind, tuple(sorted(who)))


@dataclass(frozen=True, slots=True)
class Relation:
    """One person's sentence: its kind, the numbers in it, and the people it refers to."""

    kind: str
    person: str
    others: tuple[str, ...] = ()
    number: int = 0
    count: int = 0

    @property
    def form(self) -> RelationForm:
        """The row of the table that this sentence is made from."""
        return RELATIONS[self.kind]

    def render(self, template: str, item: str) -> str:
        """Fill one of the form's templates."""
        others = (*self.others, "", "")
        return template.format(S=self.person, O=others[0], P=others[1], N=self.number, M=self.count, I=item)


@dataclass(frozen=True, slots=True)
class Scene:
    """A problem as data. `relations` keeps the order of the sentences."""

    place: str
    item: str
    relations: Mapping[str, Relation]
    question: Quantity
    question_text: str
    price: int | None = None

    @property
    def text(self) -> str:
        """The problem as the solver reads it."""
        sentences = [r.render(r.form.text, self.item) for r in self.relations.values()]
        if self.price is not None:
            sentences.append(PRICE.format(I=self.item, N=self.price))
        return " ".join([self.place, *sentences, self.question_text])


def ask(kind: str, item: str, *who: str) -> tuple[Quantity, str]:
    """The quantity and the sentence of a question of one of the kinds in `QUESTIONS`."""
    text = QUESTIONS[kind].format(I=item, S=who[0], T=who[-1])
    inner: Literal["has", "gap", "cost"] = (
        "gap" if kind == "gap" else "cost" if kind.startswith("cost") else "has"
    )
    return quantity(inner, *who), text


def _read_relation(sentence: str) -> tuple[Relation, str] | None:
    for kind, pattern in _RELATION_PATTERNS.items():
        match = pattern.fullmatch(sentence)
        if match:
            found = match.groupdict()
            others = tuple(found[slot] for slot in ("O", "P") if slot in found)
            number = int(found["N"]) if "N" in found else RELATIONS[kind].factor or 0
            relation = Relation(kind, found["S"], others, number, int(found.get("M", 0)))
            return relation, found["I"]
    return None


def parse_problem(text: str) -> Scene:
    """Read a problem of this world back into a scene.

    Raises:
        DataError: the text is not a problem of the arithmetic world.
    """
    place = next((p for p in PLACES if text.startswith(p)), "")
    relations: dict[str, Relation] = {}
    item, price = "", None
    question: tuple[Quantity, str] | None = None
    for part in re.findall(r"[^.?]+[.?]", text[len(place) :]):
        sentence = part.strip()
        relation = _read_relation(sentence)
        cost = _PRICE_PATTERN.fullmatch(sentence)
        if relation is not None:
            relations[relation[0].person] = relation[0]
            item = relation[1]
        elif cost:
            price = int(cost["N"])
        else:
            question = _read_question(sentence)
            if question is None:
                raise _foreign(sentence)
    if question is None or not relations:
        raise _foreign(text)
    scene = Scene(place, item, relations, question[0], question[1], price)
    unknown = {name for r in relations.values() for name in r.others} | set(scene.question.who)
    if unknown - set(relations) or (scene.question.kind == "cost" and price is None):
        raise _foreign(text)
    return scene


def _read_question(sentence: str) -> tuple[Quantity, str] | None:
    for kind, pattern in _QUESTION_PATTERNS.items():
        match = pattern.fullmatch(sentence)
        if match:
            found = match.groupdict()
            who = [found[slot] for slot in ("S", "T") if slot in found]
            return ask(kind, found["I"], *who)
    return None


def _foreign(sentence: str) -> DataError:
    return DataError(
        f"not a problem of the arithmetic world: {sentence[:80]!r}",
        hint="only problems made by genprm.worlds.arithmetic.generate_problems have a computable truth",
    )


def relation_value(relation: Relation, known: Mapping[str, Fraction]) -> Fraction:
    """The number of things that a relation gives its person, from the others' numbers."""
    left, right = operands(relation, known)
    return apply(relation.form.operator, left, right)


def operands(relation: Relation, known: Mapping[str, Fraction]) -> tuple[Fraction, Fraction]:
    """Left and right operand of a relation (the right one is unused for a plain given)."""
    if relation.kind == "given":
        return Fraction(relation.number), Fraction(0)
    if relation.kind == "boxes":
        return Fraction(relation.count), Fraction(relation.number)
    if relation.kind == "both":
        return known[relation.others[0]], known[relation.others[1]]
    return known[relation.others[0]], Fraction(relation.number)


def apply(operator: str | None, left: Fraction, right: Fraction) -> Fraction:
    """`left operator right`; the left operand alone where there is no operator."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right
        case _:
            return left


def person_values(scene: Scene) -> dict[str, Fraction]:
    """The true number of things of every person, by the scene's relations.

    Raises:
        DataError: the relations go round in a circle.
    """
    values: dict[str, Fraction] = {}
    while len(values) < len(scene.relations):
        ready = [
            r
            for r in scene.relations.values()
            if r.person not in values and all(o in values for o in r.others)
        ]
        if not ready:
            raise _foreign(scene.text)
        for relation in ready:
            values[relation.person] = relation_value(relation, values)
    return values


def true_value(
    scene: Scene, wanted: Quantity, values: Mapping[str, Fraction] | None = None
) -> Fraction | None:
    """The true value of a quantity; None where the scene does not define it."""
    values = person_values(scene) if values is None else values
    if any(name not in values for name in wanted.who):
        return None
    numbers = [values[name] for name in wanted.who]
    if wanted.kind == "gap":
        return abs(numbers[0] - numbers[-1]) if len(numbers) == 2 else None
    total = sum(numbers, Fraction(0))
    if wanted.kind == "cost":
        return None if scene.price is None else total * scene.price
    return total


class Claim(NamedTuple):
    """What a step states.

    Attributes:
        quantity: what it speaks about; None where only an answer is given.
        expression: the arithmetic written before the equals sign; None where a value is merely restated.
        value: the value that it gives the quantity.
        answer: the boxed final answer, where the step has one.
        item: what is counted or paid for, where the step names it.
    """

    quantity: Quantity | None
    expression: str | None
    value: int | None
    answer: int | None
    item: str | None = None


CLAIMS: dict[str, str] = {
    "has1": "{Q}: {E} = {V}, so {X} = {R}.",
    "has2": "{S} = {A} and {T} = {B} together have {E} = {V}.",
    "gap2": "{S} = {A} is over {T} = {B} by {E} = {V}.",
    "cost1": "The {I} of {S} = {A} cost {E} = {V} coins.",
    "cost2": "The {I} of {S} and {T} cost {E} = {V} coins.",
}
RESTATED = "We know that {S} = {V}."
# What stands before an equation is prose: the truth of a step is that of its equation and its value.
_SLOTS["Q"] = rf"(?P<S>[A-Z][a-z]+) (?:[A-Za-z\d ]|= {_SLOTS['A']})*"
_SLOTS["X"] = "(?P=S)"
_CLAIM_PATTERNS = {kind: _pattern(text) for kind, text in CLAIMS.items()}
_RESTATED_PATTERN = _pattern(RESTATED)
_STEP_HEAD = re.compile(r"\s*(?:Step \d+:\s*)?(?P<opening>(?:Wait|Check),\s+)?")
_ANSWER_TAIL = re.compile(r"(?:^|\s+)The answer is \\boxed\{(\d{1,9})\}\.\s*$")


def quoted(scene: Scene, relation: Relation, values: Mapping[str, str]) -> str:
    """A relation as a step quotes it: without the item, each other person followed by the number used."""
    others = tuple(f"{name} = {values[name]}" for name in relation.others)
    return replace(relation, others=others).render(relation.form.short, scene.item)


def claim_text(
    scene: Scene, wanted: Quantity, expression: str, value: int, values: Mapping[str, str]
) -> str:
    """The sentence of a step that computes a quantity.

    Args:
        values: the number used for each person; where the sentence names two, in the order of naming.
    """
    template = CLAIMS[f"{wanted.kind}{len(wanted.who)}"]
    if wanted.kind == "has" and len(wanted.who) == 1:
        relation = quoted(scene, scene.relations[wanted.who[0]], values)
        return template.format(Q=relation, X=wanted.who[0], E=expression, V=value, R=value)
    named = [name for name in values if name in wanted.who]
    numbers = {"A": values[named[0]], "B": values[named[-1]], "E": expression, "V": value}
    return template.format(S=named[0], T=named[-1], I=scene.item, **numbers)


def parse_step(text: str) -> Claim | None:
    """Read one step; None where it is not a sentence of this world."""
    head = _STEP_HEAD.match(text)
    body = text[head.end() :] if head else text
    if head and head["opening"] and body.startswith("the "):
        body = f"T{body[1:]}"
    tail = _ANSWER_TAIL.search(body)
    answer = int(tail[1]) if tail else None
    body = (body[: tail.start()] if tail else body).strip()
    if not body:
        return Claim(None, None, None, answer) if tail else None
    known = _RESTATED_PATTERN.fullmatch(body)
    if known:
        return Claim(quantity("has", known["S"]), None, int(known["V"]), answer)
    for kind, pattern in _CLAIM_PATTERNS.items():
        match = pattern.fullmatch(body)
        if match and len(match["V"]) <= 9:
            found = match.groupdict()
            if found.get("R", found["V"]) != found["V"]:
                return None
            who = [found[slot] for slot in ("S", "T") if slot in found]
            wanted = quantity(kind[:-1], *who)  # type: ignore[arg-type]
            return Claim(wanted, found["E"], int(found["V"]), answer, found.get("I"))
    return None


def evaluate(expression: str) -> Fraction | None:
    """Value of an expression of numbers, + - * / and brackets; None where it is not one or divides by 0."""
    if len(expression) > 80:
        return None
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        return _evaluate(tree)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _evaluate(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    symbols: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
    if isinstance(node, ast.BinOp) and type(node.op) in symbols:
        return apply(symbols[type(node.op)], _evaluate(node.left), _evaluate(node.right))
    raise ValueError("not arithmetic")
