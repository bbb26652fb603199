r"""Answers of several parts: lists, sets, tuples, intervals, unions.

They are compared member by member, so that no comparison decides on a part, and so that a comma between two members is
never taken for one between thousands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_MEMBERS = 50
_OPENING = ("(", "[", r"\{", r"\langle")
_CLOSING = (")", "]", r"\}", r"\rangle")
_TOKEN = re.compile(
    r"\\[{}]|\\[lr]angle|\\(?:big)?cup(?![a-z])|(?P<begin>\\begin\{[^{}]*\})|(?P<end>\\end\{[^{}]*\})|[()\[\]{},;]"
)
_WORD_AND = re.compile(
    r"\s*(?:\\(?:text|mathrm|textrm)\s*\{\s*(?:,\s*)?(?:and|or)\s*\}|\b(?:and|or)\b)\s*", re.IGNORECASE
)
_NAME = r"[a-zA-Z](?:_\{?\w\}?)?"
ASSIGNMENT = re.compile(
    rf"^(?:{_NAME}|\(\s*{_NAME}(?:\s*,\s*{_NAME})+\s*\)|[a-z]\([a-z]\))\s*(?:=|\\in(?![a-z]))\s*(?=[^=])"
)
_BOUND = re.compile(r"^[a-zA-Z]\s*(<|>|\\(?:leq?|geq?|lt|gt)(?![a-z]))\s*([^<>=]+)$")
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Parts:
    """The members of an answer.

    Attributes:
        kind: `list` and `set` have no order; `ordered` is a tuple, a vector or an interval; `union` joins sets.
        brackets: the opening and the closing one; empty for a list.
        members: at least two, or one of a set.
    """

    kind: Literal["list", "set", "ordered", "union"]
    members: tuple[str, ...]
    brackets: str = ""


def parts_of(text: str) -> Parts | None:
    r"""The members of a tidied answer; None if it is a single value, or has more than 50.

    `2 \pm \sqrt{3}` counts as the list of its two values.
    """
    text = ASSIGNMENT.sub("", text.strip())
    union = _split(text, {r"\cup", r"\bigcup"})
    if len(union) > 1:
        return _limited(Parts("union", tuple(union)))
    enclosed = _enclosed(text)
    if enclosed is not None:
        opening, closing, inside = enclosed
        members = [member for member in _split(inside, {",", ";"}) if member]
        if opening == r"\{" or (opening == "{" and len(members) > 1):
            return _limited(Parts("set", tuple(_expanded(members))))
        if len(members) > 1:
            return _limited(Parts("ordered", tuple(members), opening + closing))
        return None
    members = [
        part for piece in _split(text, {",", ";"}) for part in _WORD_AND.split(piece) if part.strip()
    ]
    members = _expanded(members)
    return _limited(Parts("list", tuple(members))) if len(members) > 1 else None


def as_union(parts: Parts) -> Parts:
    r"""`x < 3 or x > 5` as the union of intervals that it is; anything else as it is."""
    bounds = [_BOUND.match(member) for member in parts.members]
    if parts.kind != "list" or not all(bounds):
        return parts
    members = []
    for sign, value in (bound.groups() for bound in bounds if bound):
        left, right = ("[", "]") if "e" in sign else ("(", ")")
        below = sign == "<" or "l" in sign
        members.append(rf"(-\infty,{value}{right}" if below else rf"{left}{value},\infty)")
    return Parts("union", tuple(members))


def _limited(parts: Parts) -> Parts | None:
    return parts if len(parts.members) <= _MEMBERS else None


def _expanded(members: list[str]) -> list[str]:
    found: list[str] = []
    for member in members:
        if _PLUS_MINUS.search(member):
            upper = member.replace(r"\pm", "+").replace(r"\mp", "-")
            lower = member.replace(r"\pm", "-").replace(r"\mp", "+")
            found += [upper.lstrip("+ "), lower.lstrip("+ ")]
        else:
            found.append(member)
    return found


def _split(text: str, at: set[str]) -> list[str]:
    """`text` cut at these tokens outside of all brackets."""
    found: list[str] = []
    depth = start = 0
    for match in _TOKEN.finditer(text):
        depth += _change(match)
        if match[0] in at and depth == 0:
            found.append(text[start : match.start()].strip())
            start = match.end()
    return [*found, text[start:].strip()]


def _enclosed(text: str) -> tuple[str, str, str] | None:
    """Opening bracket, closing bracket and inside of a text that one pair of brackets encloses."""
    depth = 0
    opening = None
    for match in _TOKEN.finditer(text):
        token, change = match[0], _change(match)
        depth += change
        if change > 0 and depth == 1:
            if match.start() != 0 or (token not in _OPENING and token != "{"):
                return None
            opening = match
        elif change < 0 and depth == 0:
            if opening is None or match.end() != len(text) or (opening[0] in "([") != (token in ")]"):
                return None
            return opening[0], token, text[opening.end() : match.start()].strip()
    return None


def _change(match: re.Match[str]) -> int:
    """How a token changes the depth of brackets and environments."""
    if match["begin"] or match[0] == "{" or match[0] in _OPENING:
        return 1
    return -1 if match["end"] or match[0] == "}" or match[0] in _CLOSING else 0
