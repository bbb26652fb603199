"""Which words of a problem a calculation rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from annotated.numbers import NUMBER, as_fraction, is_number, plain

_SENTENCE = re.compile(r"(?<=[.?!])\s+")
_CLAUSE = re.compile(r"(?<=[,;])\s+|(?<=[.?!])\s+|\s+(?=(?:and|but|while|which|then)\s)")
_WORD = re.compile(r"[a-z]+")
_MOST_WORDS = 20
_WORDS = {
    "0.5": "half",
    "1": "one a an",
    "2": "two twice half double doubles doubled both pair couple",
    "3": "three third thirds triple triples thrice",
    "4": "four fourth fourths quarter quarters",
    "5": "five fifth fifths",
    "6": "six sixth sixths",
    "7": "seven week weeks weekly",
    "8": "eight eighth eighths",
    "9": "nine",
    "10": "ten tenth",
    "11": "eleven",
    "12": "twelve dozen dozens year foot feet",
    "15": "fifteen",
    "20": "twenty",
    "24": "day days",
    "52": "weeks year",
    "60": "hour hours minute minutes",
    "100": "percent",
}
_COMMON = set(
    re.findall(r"\w+", "a an the of to in is are was were and he she it they his her their for so that")
)


def sentences(question: str) -> list[str]:
    """The sentences of a problem."""
    return [part.strip() for part in _SENTENCE.split(question) if part.strip()]


def clause_for(question: str, operands: Sequence[str], line: str) -> str | None:
    """The clause of the problem that names most of the operands in words like the line's; None if none names any.

    Args:
        operands: numbers of the calculation that are no earlier results.
        line: the sentence around the calculation.
    """
    clauses = [part.strip() for part in _CLAUSE.split(question) if part.strip()]
    wanted = _content(line)
    scored = [
        (2 * named + len(wanted & _content(clause)) / (4 + len(clause.split())), -index)
        for index, clause in enumerate(clauses)
        if (named := sum(_names(clause, operand) for operand in set(operands) if is_number(operand)))
    ]
    if not scored:
        return None
    return _shortened(clauses[-max(scored)[1]], operands)


def numbers_in(text: str) -> list[str]:
    """The numbers of a text, as Python writes them."""
    return [plain(as_fraction(number)) for number in re.findall(NUMBER, text)]


def _names(clause: str, operand: str) -> bool:
    """Whether a clause holds a number in digits, in words, or as a percentage."""
    found = numbers_in(clause)
    if operand in found or set(_WORDS.get(operand, "").split()) & set(_WORD.findall(clause.lower())):
        return True
    share = plain(as_fraction(operand) * 100)
    rest = {share, plain(100 - as_fraction(share)), plain(100 + as_fraction(share))}
    return "%" in clause and (operand == "100" or bool(rest & set(found)))


def _content(text: str) -> set[str]:
    """Words that say what a text is about, without their plural."""
    return {word.rstrip("s") for word in _WORD.findall(text.lower())} - _COMMON


def _shortened(clause: str, operands: Sequence[str]) -> str:
    """At most `_MOST_WORDS` words around the first operand."""
    words = clause.rstrip(".,;?! ").split()
    if len(words) <= _MOST_WORDS:
        return " ".join(words)
    at = next((i for i, word in enumerate(words) if any(_names(word, number) for number in operands)), 0)
    start = max(0, min(at - _MOST_WORDS // 2, len(words) - _MOST_WORDS))
    return " ".join(words[start : start + _MOST_WORDS])
