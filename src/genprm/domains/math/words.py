r"""Numbers in words: `seven`, `one hundred and five`, `5 sevenths`, `two and a half`, `1.2 million`, `12th`."""

from __future__ import annotations

import re
from fractions import Fraction

_ORDINAL = re.compile(
    r"([+-]?\d[\d,]*)\s*(?:\^?\s*\{?\s*(?:\\(?:text|mathrm|textsuperscript)\s*\{\s*)?)(?:st|nd|rd|th)\s*\}*",
    re.IGNORECASE,
)
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: number for number, word in enumerate(_UNITS)}
_TEN = {word: 20 + 10 * number for number, word in enumerate(_TENS)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_TIMES = {"dozen": 12, "hundred": 100, **_SCALES}
_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_WORD = re.compile(r"[a-z]+")
_SPOKEN = re.compile(r"(-?)([a-z]+(?:(?:, |[ -])[a-z]+)*)", re.IGNORECASE)
_SCALED = re.compile(r"([+-]?(?:\d+(?:\.\d+)?|\.\d+))\s+([a-z]+)", re.IGNORECASE)
_PART = re.compile(r"(-?)(\d+)[ -]([a-z]+)", re.IGNORECASE)
_AND_PART = re.compile(r"(.+) and (a|one|\d+|[a-z]+)[ -]([a-z]+)", re.IGNORECASE)
_DIGITS = re.compile(r"[+-]?\d+(?:\.\d+)?")
_LONGEST = 120
_WORDS_OF_ALL = {
    *_SMALL,
    *_TEN,
    *_TIMES,
    *_PARTS,
    *(f"{part}s" for part in _PARTS),
    "a",
    "an",
    "and",
    "minus",
}


def number_of_words(text: str) -> str | None:
    """A whole answer in words, or an ordinal, as a number; None for anything else.

    A unit may follow a number in words (`seven apples`); the caller knows what a unit is, see `leading_words`.
    """
    if ordinal := _ORDINAL.fullmatch(text):
        return ordinal[1]
    value = _value(text) if len(text) <= _LONGEST else None
    if value is None:
        return None
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def leading_words(text: str) -> tuple[str, str] | None:
    """A text that opens with a number in words ("two dozen eggs", "5 million dollars"): that number, and the rest."""
    words = text.split(" ") if len(text) <= _LONGEST else [""]
    count = first = 1 if _DIGITS.fullmatch(words[0]) else 0
    while count < len(words) and set(_WORD.findall(words[count].lower())) & _WORDS_OF_ALL:
        count += 1
    return (" ".join(words[:count]), " ".join(words[count:])) if first < count < len(words) else None


def _value(text: str) -> Fraction | None:
    if match := _SCALED.fullmatch(text):
        times = _TIMES.get(match[2].lower().removesuffix("s"))
        if times is not None:
            return Fraction(match[1]) * times
    if match := _AND_PART.fullmatch(text):
        whole, part = _whole(match[1]), _part([match[2].lower()], match[3].lower())
        if whole is not None and part is not None and part < 1:
            return whole + part
    if match := _PART.fullmatch(text):
        part = _part([match[2]], match[3].lower())
        return part if part is None or not match[1] else -part
    match = _SPOKEN.fullmatch(text)
    if match is None:
        return None
    words = _WORD.findall(match[2].lower())
    negative = bool(match[1]) or words[0] in ("minus", "negative")
    words = words[words[0] in ("minus", "negative") :]
    if words == ["half"]:
        return Fraction(-1 if negative else 1, 2)
    cardinal = _cardinal(words)
    found = _part(words[:-1], words[-1]) if cardinal is None and words else cardinal
    return None if found is None else Fraction(-found if negative else found)


def _whole(text: str) -> Fraction | None:
    return Fraction(text) if text.isascii() and text.isdigit() else _value(text)


def _part(top: list[str], bottom: str) -> Fraction | None:
    """A fraction in words: one part, or parts in the plural; `thirty-fifth` is an ordinal."""
    below = _PARTS.get(bottom.removesuffix("s"))
    above = 1 if top in (["a"], ["an"]) else int(top[0]) if _is_digits(top) else _cardinal(top)
    if below is None or above is None:
        return None
    if len(top) == 1 and top[0] in _TEN and not bottom.endswith("s"):
        return Fraction(above + below) if below < 10 else None
    return Fraction(above, below) if above == 1 or bottom.endswith("s") else None


def _is_digits(words: list[str]) -> bool:
    return len(words) == 1 and words[0].isascii() and words[0].isdigit()


def _cardinal(words: list[str]) -> int | None:
    """The whole number that these words say; None if they say none ("twenty forty", "five two")."""
    total = group = 0
    last, scale = "", 10**15
    for index, word in enumerate(words):
        kind = _kind(word)
        if kind == "and":
            if last not in ("hundred", "scale") or index == len(words) - 1:
                return None
            continue
        if kind not in _FOLLOW[last] or (kind == "scale" and _SCALES[word] >= scale):
            return None
        if kind == "scale":
            scale = _SCALES[word]
            total, group = total + group * scale, 0
        elif kind in ("hundred", "dozen"):
            group *= _TIMES[word]
        else:
            group += 1 if kind == "a" else _TEN.get(word, 0) + _SMALL.get(word, 0)
        last = kind
    return None if not last or last == "a" else total + group


# Which kinds of words may follow which: "a" opens, tens take a digit, a number of hundreds takes anything below one.
_FOLLOW: dict[str, tuple[str, ...]] = {
    "": ("a", "digit", "teen", "ten"),
    "a": ("hundred", "dozen", "scale"),
    "digit": ("hundred", "dozen", "scale"),
    "teen": ("hundred", "dozen", "scale"),
    "ten": ("digit", "dozen", "scale"),
    "hundred": ("digit", "teen", "ten", "scale"),
    "scale": ("digit", "teen", "ten"),
    "dozen": (),
}


def _kind(word: str) -> str:
    if word in ("a", "an"):
        return "a"
    if word in _SCALES:
        return "scale"
    if word in ("hundred", "dozen", "and"):
        return word
    if word in _TEN:
        return "ten"
    return ("digit" if _SMALL[word] < 10 else "teen") if word in _SMALL else "other"
