"""Solutions with a known first error: the mistakes that policies make, put into a worked solution.

A corruption changes one calculation, and with it what the solution says from there on: later lines either use the
wrong result (`carried`), recomputed consistently, or stay as they were. `kind` names what went wrong:

- `operation`: another operation than the problem asks for;
- `operand`: another number of the problem, or an earlier result, in the place of the right one;
- `dropped`: a term or factor is left out;
- `doubled`: the last operation is done twice;
- `unit`: a conversion off by the unit's factor;
- `slip`: the right expression with a wrong result;
- `skipped`: the solution ends one calculation too early, with that result as its answer;
- `misquoted`: a fact of the problem restated with another number.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from annotated.numbers import NUMBER, Tokens, agrees, as_fraction, evaluate, is_number, plain, shown
from annotated.reading import Worked

KINDS = {
    "operation": 20,
    "operand": 24,
    "dropped": 40,
    "doubled": 7,
    "unit": 7,
    "slip": 14,
    "skipped": 9,
    "misquoted": 5,
}
"""The kinds and the shares in which they are drawn."""

_DRAWS = 8
_SWAPS = {"+": "-*", "-": "+", "*": "/+", "/": "*"}
_UNIT_FACTORS = ("10", "100", "60", "7", "12", "1000")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a solution claims at a line: expression and result, right or wrong."""

    tokens: Tokens
    result: str


@dataclass(frozen=True, slots=True)
class Told:
    """A solution as it will be told.

    Attributes:
        claims: per line of the worked solution what is claimed there; None for a line without calculation. Shorter than
            the lines if the solution ends too early.
        kind: the kind of the corruption; None for a correct solution.
    """

    claims: tuple[Claim | None, ...]
    kind: str | None = None


def correct(worked: Worked, rng: random.Random) -> Told:
    """The solution as it is, with the order of some sums and products changed."""
    claims = [
        Claim(_commuted(line.tokens, rng), line.result) if line.tokens else None for line in worked.lines
    ]
    return Told(tuple(claims))


def corrupted(worked: Worked, rng: random.Random) -> Told | None:
    """The solution with one mistake; None if none of the kinds drawn in turn fits it."""
    for _ in range(_DRAWS):
        kind = rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
        told = _with_mistake(worked, kind, rng)
        if told is not None:
            return told
    return None


def _with_mistake(worked: Worked, kind: str, rng: random.Random) -> Told | None:
    """The solution with a mistake of this kind; None if it does not fit."""
    right = correct(worked, rng)
    if kind == "misquoted":
        return Told(right.claims, kind)
    if kind == "skipped":
        last, before = worked.calculations[-1], worked.calculations[-2:-1]
        told = right.claims[:last]
        if not before or worked.lines[before[0]].value == worked.lines[last].value:
            return None
        return Told(told, kind)
    at = rng.choice(worked.calculations)
    wrong = _wrong_claim(worked, at, kind, rng)
    if wrong is None:
        return None
    claims = list(right.claims)
    claims[at] = wrong
    if rng.random() < 0.85:
        _carry(worked, claims, at)
    return Told(tuple(claims), kind)


def _wrong_claim(worked: Worked, at: int, kind: str, rng: random.Random) -> Claim | None:
    """A wrong expression with its own result, or the right one with a wrong result."""
    line = worked.lines[at]
    if kind == "slip":
        result = slipped(line.result, rng)
        return None if agrees(line.value, result) else Claim(line.tokens, result)
    ways: dict[str, Callable[[], Tokens | None]] = {
        "operation": lambda: swapped(line.tokens, rng),
        "operand": lambda: _other_operand(line.tokens, _numbers_before(worked, at), rng),
        "dropped": lambda: _without_term(line.tokens, rng),
        "doubled": lambda: _done_twice(line.tokens),
        "unit": lambda: _other_unit(line.tokens, rng),
    }
    tokens = ways[kind]()
    value = evaluate(tokens) if tokens else None
    if tokens is None or value is None or not _plausible(value, line.value):
        return None
    return Claim(tokens, shown(value))


def _plausible(value: Fraction, true: Fraction) -> bool:
    """A result that a solution might state, and that no rounding takes for the right one."""
    text = shown(value)
    return value > 0 and text != "0" and abs(value - true) >= Fraction(1, 20) and not agrees(true, text)


def swapped(tokens: Tokens, rng: random.Random) -> Tokens | None:
    """The expression with one operation exchanged; None if it has none."""
    places = [index for index, token in enumerate(tokens) if token in _SWAPS]
    if not places:
        return None
    at = rng.choice(places)
    changed = [*tokens[:at], rng.choice(_SWAPS[tokens[at]]), *tokens[at + 1 :]]
    value = evaluate(changed)
    if value is not None and value < 0 and len(tokens) == 3:
        changed.reverse()
    return tuple(changed)


def _numbers_before(worked: Worked, at: int) -> list[str]:
    """Numbers that a solver has seen when it comes to a line."""
    asked = [plain(as_fraction(number)) for number in re.findall(NUMBER, worked.question)]
    return [*asked, *(worked.lines[index].result for index in worked.calculations if index < at)]


def _other_operand(tokens: Tokens, known: Sequence[str], rng: random.Random) -> Tokens | None:
    places = [index for index, token in enumerate(tokens) if is_number(token)]
    at = rng.choice(places)
    others = sorted(set(known) - set(tokens))
    if not others:
        return None
    return (*tokens[:at], rng.choice(others), *tokens[at + 1 :])


def _without_term(tokens: Tokens, rng: random.Random) -> Tokens | None:
    """One term or factor less; None for brackets and for two operands, whose rest would be no calculation."""
    if "(" in tokens or len(tokens) < 5:
        return None
    at = rng.randrange(1, len(tokens), 2)
    return tokens[:at] + tokens[at + 2 :]


def _done_twice(tokens: Tokens) -> Tokens | None:
    if "(" in tokens or len(tokens) < 3:
        return None
    inner = tokens if tokens[-2] in "+-" or not {"+", "-"} & set(tokens) else ("(", *tokens, ")")
    return (*inner, *tokens[-2:])


def _other_unit(tokens: Tokens, rng: random.Random) -> Tokens | None:
    """A conversion factor exchanged for another one, or a conversion where none is needed."""
    factors = [index for index, token in enumerate(tokens) if token in _UNIT_FACTORS]
    if factors:
        at = rng.choice(factors)
        other = rng.choice([factor for factor in _UNIT_FACTORS if factor != tokens[at]])
        return (*tokens[:at], other, *tokens[at + 1 :])
    if {"+", "-", "("} & set(tokens):
        return None
    return (*tokens, rng.choice("*/"), rng.choice(_UNIT_FACTORS))


def slipped(result: str, rng: random.Random) -> str:
    """A result as a slip of arithmetic gives it: a digit wrong, two digits exchanged, a power of ten."""
    value = as_fraction(result)
    digits = [index for index, char in enumerate(result) if char.isdigit()]
    way = rng.random()
    if way < 0.5:
        at = rng.choice(digits)
        change = rng.choice([-2, -1, 1, 2])
        digit = (int(result[at]) + change) % 10
        changed = f"{result[:at]}{digit}{result[at + 1 :]}"
    elif way < 0.7:
        changed = plain(value + rng.choice([-10, 10, -1, 1, 2, 100]))
    elif way < 0.85 and len(digits) > 1:
        changed = plain(value * 10 if rng.random() < 0.5 else value / 10)
    else:
        swap = rng.randrange(max(1, len(result) - 1))
        changed = result[:swap] + result[swap : swap + 2][::-1] + result[swap + 2 :]
    try:
        wrong = as_fraction(changed)
    except ValueError:
        return result
    return plain(wrong) if wrong > 0 else result


def _commuted(tokens: Tokens, rng: random.Random) -> Tokens:
    if len(tokens) == 3 and tokens[1] in "+*" and rng.random() < 0.3:
        return tokens[::-1]
    return tokens


def _carry(worked: Worked, claims: list[Claim | None], at: int) -> None:
    """Recompute the lines after a wrong one from what it claims."""
    results = {index: claim.result for index, claim in enumerate(claims) if claim is not None}
    for index in worked.calculations:
        if index <= at:
            continue
        tokens = tuple(_as_told(worked, token, index, results) for token in worked.lines[index].tokens)
        value = evaluate(tokens)
        if tokens != worked.lines[index].tokens and value is not None and value > 0:
            results[index] = shown(value)
            claims[index] = Claim(tokens, results[index])


def _as_told(worked: Worked, token: str, index: int, results: dict[int, str]) -> str:
    """What stands for an operand when an earlier line's result was told differently."""
    source = source_of(worked, token, index)
    return token if source is None else results[source]


def source_of(worked: Worked, token: str, index: int) -> int | None:
    """The last line before `index` whose result is this operand; None if none is."""
    earlier = [j for j in worked.calculations if j < index and worked.lines[j].result == token]
    return earlier[-1] if earlier else None
