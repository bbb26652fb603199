"""Numbers and expressions: exact values, and how they read in Python, in a sentence and in LaTeX."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Sequence
from fractions import Fraction

NUMBER = r"\d[\d,]*(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(rf"\s*({NUMBER}|[-+*/()])")
_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

Tokens = tuple[str, ...]
"""An expression: numbers as Python writes them, operators, brackets, and names of earlier results."""


def tokens_of(text: str) -> Tokens | None:
    """The tokens of an expression; None if it is none."""
    found: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        token = match[1]
        found.append(plain(as_fraction(token)) if is_number(token) else token)
        at = match.end()
    return tuple(found) if found else None


def is_number(token: str) -> bool:
    """Whether a token is a number, not an operator, a bracket or a name."""
    return token[0].isdigit() or (token[0] == "." and len(token) > 1)


def as_fraction(text: str) -> Fraction:
    """The exact value of a decimal number; commas between thousands are ignored."""
    return Fraction(text.replace(",", "").rstrip("."))


def evaluate(tokens: Sequence[str]) -> Fraction | None:
    """The exact value of an expression of numbers; None if it has none."""
    try:
        return _value(ast.parse(" ".join(tokens), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(repr(node.value))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return Fraction(_OPERATIONS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    raise ValueError("no arithmetic")


def reduced(tokens: Tokens) -> Tokens | None:
    """The expression with its first operation done; None if it has but one, or if the result is no short number."""
    if len(tokens) < 5 or "(" in tokens:
        return None
    products = [index for index, token in enumerate(tokens) if token in "*/"]
    at = products[0] if products else 1
    value = evaluate(tokens[at - 1 : at + 2])
    if value is None or value < 0 or decimals(plain(value)) > 3 or as_fraction(plain(value)) != value:
        return None
    return (*tokens[: at - 1], plain(value), *tokens[at + 2 :])


def shown(value: Fraction, digits: int = 2) -> str:
    """A value rounded to so many decimals, without zeros at the end."""
    rounded = round(value, digits)
    if rounded.denominator == 1:
        return str(rounded.numerator)
    return f"{float(rounded):.{digits}f}".rstrip("0").rstrip(".")


def plain(value: Fraction) -> str:
    """A decimal number in full, as Python writes it."""
    return shown(value, 8)


def decimals(text: str) -> int:
    """Digits after the point."""
    return len(text.partition(".")[2])


def precision(claim: str) -> int:
    """Decimals to which a result is compared with a claim: its own, but two for whole numbers."""
    return decimals(claim) or 2


def agrees(value: Fraction, claim: str) -> bool:
    """Whether a claim is a value, rounded as the claim is."""
    return round(value, precision(claim)) == as_fraction(claim)


def with_commas(text: str) -> str:
    """`12000.5` as `12,000.5`."""
    whole, point, rest = text.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.isdigit() else text
