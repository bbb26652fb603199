"""What must be compared to decide whether two answers are equal: nothing, their members, or two expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from genprm.domains.base import Graded
from genprm.domains.math.normal import TEXT, compare_plain, tidy
from genprm.domains.math.notation import from_calculator
from genprm.domains.math.structure import ASSIGNMENT, Parts, as_union, parts_of

_RELATION = re.compile(r"[<>]|\\(?:le|ge|leq|geq|in|ne|neq|lt|gt|pm|mp)(?![a-z])")
_BASE = re.compile(r"(\w+)_\{?(\d+)\}?")
_MATH_WORD = re.compile(
    r"\\(?:begin|end)\s*\{\w+\*?\}|\\[a-zA-Z]+|(?<![a-zA-Z])(?:sqrt|exp|abs|arc(?:sin|cos|tan)|mod|infinity)(?![a-zA-Z])"
)
_WORD = re.compile(r"[A-Za-z]{3,}")
_BETWEEN = re.compile(r"[,;]|\b(?:and|or)\b")
# math-verify reads y' as y.
_PRIME = re.compile(r"[A-Za-z](?='|\^\{?\\prime)")
_CHOICE = re.compile(r"\(?([A-J])\)?")
# A choice with what it says: "(C) 24", "C. 24", "option C".
_LABELLED = re.compile(
    r"(?:(?:option|choice)\s+\(?([A-J])\b|\(([A-J])\)|([A-J])[).:])(?!\s*[-+*/^_=<>]|\s*\\(?:cup|cap|cdot|times|in)\b)[^,;]*",
    re.IGNORECASE,
)
# So few letters are variables, whose case matters.
_SYMBOLS = 2
# Powers of powers of numbers, and numbers whose digits would fill the memory.
_TOWER = re.compile(r"\^\s*[{(]?\s*-?\s*(?:\d+\s*\^|\d{6,})|\d{7,}\s*!|!\s*!\s*!")
# Typography of words alone: signs, primes, and what stands before or between digits have a meaning.
_LOOSE = re.compile(r"[\"{}$]+|[.,](?!\d)|(?<!\d)\s+|\s+(?!\d)")


@dataclass(frozen=True, slots=True)
class Members:
    """Two answers of equally many parts; `ordered` says whether the first is compared with the first."""

    preds: tuple[str, ...]
    golds: tuple[str, ...]
    ordered: bool


@dataclass(frozen=True, slots=True)
class Expressions:
    """Two single values in LaTeX that only algebra can compare."""

    pred: str
    gold: str


@lru_cache(maxsize=1 << 14)
def comparison(pred: str | None, gold: str | None, max_chars: int) -> Graded | Members | Expressions:
    """The verdict if it needs no algebra, else what to compare. See `Grader.equal` for the reasons."""
    if gold is None or not gold.strip():
        return Graded(None, "no_reference")
    if pred is None or not pred.strip():
        return Graded(False, "no_answer")
    if max(len(pred), len(gold)) > max_chars:
        return Graded(True) if pred == gold else Graded(None, "too_long")
    left, right = tidy(pred), tidy(gold)
    same = True if compare_plain(left, right) else _same_choice(left, right)
    if same is not None:
        return Graded(same)
    if _is_sentence(right):  # its commas and numbers are no list, and what it says has many wordings
        return Graded(True) if _spoken(left) == _spoken(right) else Graded(None, "prose_reference")
    return _of_structure(left, right)


def _of_structure(left: str, right: str) -> Graded | Members | Expressions:
    left_parts, right_parts = parts_of(left), parts_of(right)
    if left_parts and right_parts:
        if "union" in (left_parts.kind, right_parts.kind):
            left_parts, right_parts = as_union(left_parts), as_union(right_parts)
        return _of_parts(left_parts, right_parts)
    if left_parts or right_parts:
        alone, parts = (right, left_parts) if left_parts else (left, right_parts)
        assert parts is not None
        if len(parts.members) > 1 and not _RELATION.search(alone):
            return Graded(False, "different_length")
    return _of_values(left, right)


def _of_parts(pred: Parts, gold: Parts) -> Graded | Members:
    if len(pred.members) != len(gold.members):
        return Graded(False, "different_length")
    if (pred.kind == "union") != (gold.kind == "union"):
        return Graded(False, "different_kind")
    both_ordered = pred.kind == gold.kind == "ordered"
    # Two members in brackets may be an interval, which (1, 2) and [1, 2] bound differently; three are a vector.
    if both_ordered and len(gold.members) == 2 and _ends(pred) != _ends(gold):
        return Graded(False, "different_brackets")
    unordered = {"list", "set", "union"}
    if (pred.kind == "set" and gold.kind == "ordered") or (pred.kind == "ordered" and gold.kind == "set"):
        return Graded(False, "different_kind")
    return Members(pred.members, gold.members, ordered=not {pred.kind, gold.kind} <= unordered)


def _same_choice(left: str, right: str) -> bool | None:
    """Whether a letter alone and one with its option's text name the same option; None for anything else."""
    left, right = TEXT.sub(r"\1", left).strip(), TEXT.sub(r"\1", right).strip()
    for alone, labelled in ((left, right), (right, left)):
        letter, match = _CHOICE.fullmatch(alone), _LABELLED.fullmatch(labelled)
        if letter and match and not _CHOICE.fullmatch(labelled):
            return bool(letter[1] == next(filter(None, match.groups())).upper())
    return None


def _ends(parts: Parts) -> str:
    return parts.brackets.replace(r"\langle", "(").replace(r"\rangle", ")")


def _of_values(left: str, right: str) -> Graded | Expressions:
    left, right = _alike(left, right)
    plain = compare_plain(left, right)
    if plain is not None:
        return Graded(plain)
    bases = [_BASE.fullmatch(text) for text in (left, right)]
    if all(bases) or (any(bases) and (left.isdigit() or right.isdigit())):
        digits = [match[1] if match else text for match, text in zip(bases, (left, right), strict=True)]
        named = {match[2] for match in bases if match}
        return Graded(digits[0] == digits[1] and len(named) == 1)
    return _of_words(left, right) or Expressions(from_calculator(left), from_calculator(right))


def _of_words(left: str, right: str) -> Graded | None:
    """The verdict on what algebra would misread or never finish; None for expressions."""
    spoken = _spoken(left)
    same = spoken == _spoken(right)
    if same and spoken.isalpha() and len(spoken) > _SYMBOLS:
        return Graded(True)
    if is_prose(left) or is_prose(right):
        return Graded(same, "" if same else "prose")
    if len(_PRIME.findall(left)) != len(_PRIME.findall(right)):
        return Graded(False, "different_primes")
    return Graded(None, "too_large") if _TOWER.search(left) or _TOWER.search(right) else None


def _alike(left: str, right: str) -> tuple[str, str]:
    """Both without `x =`, unless both are equations; without needless parentheses; tidied again."""
    if not ("=" in left and "=" in right):
        left, right = ASSIGNMENT.sub("", left), ASSIGNMENT.sub("", right)
    found = []
    for text in (left, right):
        inner = text[1:-1]
        bare = (
            text.startswith("(") and text.endswith(")") and not set("()") & set(inner) and "," not in inner
        )
        found.append(tidy(inner) if bare and inner.strip() else tidy(text))
    return found[0], found[1]


def is_prose(text: str) -> bool:
    """Whether words are part of an answer: it is compared as a text, since algebra would read a part of it."""
    words = _WORD.findall(_MATH_WORD.sub(" ", TEXT.sub(r" \1 ", text)))
    return any(len(word) > 3 for word in words) or len(words) > 1


def _is_sentence(text: str) -> bool:
    """Whether words make up a phrase or more of an answer, and are not names in a list."""
    parts = _BETWEEN.split(_MATH_WORD.sub(" ", TEXT.sub(r" \1 ", text)))
    return any(len(_WORD.findall(part)) > 1 for part in parts) and is_prose(text)


def _spoken(text: str) -> str:
    text = _LOOSE.sub("", TEXT.sub(r"\1", text))
    return text.lower() if not text.isupper() else text
