"""Text-level forms of answers: tidied, canonical, and plain numbers compared exactly.

What counts as a plain number: an integer or decimal (thousands commas allowed), a fraction of two
integers (`a/b`, `\\frac{a}{b}`), or a mixed number, each with an optional sign, currency sign, and unit.
"""

from __future__ import annotations

import re
from fractions import Fraction

_SPACES = re.compile(r"(?:(?<!\\)\\(?:[,;:!> ]|q?quad(?![a-zA-Z]))|~|\u00a0|\u2009|\u202f)")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({\\-])")
_BRACKET_SIZES = re.compile(r"\\(?:left|right)(?![a-zA-Z])")
_FRAC_NAMES = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_FRAC_DIGITS = re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)")
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|°")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:,\d{3})+)(?![\d,])")
_LATEX_THOUSANDS = re.compile(r"(?<=\d)\{,\}(?=\d{3})")
_SPACED_THOUSANDS = re.compile(r"^-?\d{1,3}(?: \d{3})+$")
_ASSIGNMENT = re.compile(r"^[A-Za-z]\s*=\s*(?=[^=])")
# A space between two numbers or words parts them; any other is typography.
_NEEDLESS_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_INTEGER_OR_DECIMAL = re.compile(r"^([+-]?)(\d+(?:\.\d*)?|\.\d+)$")
_FRACTION = re.compile(r"^([+-]?)\s*(?:(\d+)\s*/\s*(\d+)|\\frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\})$")
_MIXED = re.compile(r"^([+-]?)(\d+)\s*(?:\s(\d+)\s*/\s*(\d+)|\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\})$")
_NUMBER_WITH_UNIT = re.compile(
    r"^(?P<number>[+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+|\d+\s*/\s*\d+|\d*\\frac\{\d+\}\{\d+\}))"
    r"\s*(?P<unit>[A-Za-z][A-Za-z ]*)\.?$"
)
# Words that change a number's value or join several numbers: such an answer is left as it stands.
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+",
        """and or to of mod base choose by over times plus minus point root roots pi e i x y z n k sqrt sin
        cos tan log ln exp infinity percent half halves third thirds fourths fifths sixths eighths tenths
        hundredths dozen dozens hundred hundreds thousand thousands million millions billion billions
        trillion trillions factorial squared cubed am pm th st nd rd""",
    )
)
_MAX_DIGITS = 1000
_TOLERANCE = Fraction(2, 10**6)


def tidy(answer: str) -> str:
    """An answer without its typography: math delimiters, currency signs, thin spaces, plain units.

    The value is not changed. `1{,}000` and `1,000` become `1000`; `$5` and `5 dollars` become `5`;
    `x = 5` and `12, 34` stay, since the first is a statement and the second a list.
    """
    text = answer.strip().strip("*").replace("−", "-").replace("–", "-").replace("\\%", "%")
    text = text.replace("\\$", "").replace("$", "").replace("\\(", "").replace("\\)", "")
    text = _BRACKET_SIZES.sub("", text.replace("€", "").replace("£", ""))
    text = _POWER.sub("^", text)
    text = _FRAC_NAMES.sub(r"\\frac", text)
    text = _FRAC_DIGITS.sub(r"\\frac{\1}{\2}", text)
    text = _LATEX_THOUSANDS.sub("", _SPACES.sub(" ", text))
    text = _DEGREES.sub("", text)
    text = _THOUSANDS.sub(lambda m: m.group(1) + m.group(2).replace(",", ""), text)
    text = re.sub(r"\s+", " ", text).strip()
    text = text.rstrip(".").rstrip()
    if _SPACED_THOUSANDS.match(text):
        text = text.replace(" ", "")
    return _without_mixed(_without_unit(text))


def _without_mixed(text: str) -> str:
    """A mixed number as the single fraction that it means (`2 1/2` is `5/2`)."""
    match = _MIXED.match(text)
    value = as_number(text) if match else None
    return text if value is None else f"{value.numerator}/{value.denominator}"


def _without_unit(text: str) -> str:
    """The number alone if a unit in words follows it."""
    match = _NUMBER_WITH_UNIT.match(_TEXT.sub(r" \1 ", text).strip())
    if not match:
        return text
    words = match["unit"].lower().split()
    plain = all(len(word) > 1 or word == "m" for word in words) and not _NOT_UNITS.intersection(words)
    return match["number"] if plain else text


def as_number(text: str) -> Fraction | None:
    """The exact value of a tidied plain number; None for anything else."""
    if sum(char.isdigit() for char in text) > _MAX_DIGITS or not text.isascii():
        return None
    if match := _INTEGER_OR_DECIMAL.match(text):
        sign, digits = match.groups()
        return _signed(sign, Fraction(digits.rstrip(".") or "0"))
    if match := _FRACTION.match(text):
        sign, top, bottom, latex_top, latex_bottom = match.groups()
        below = int(bottom or latex_bottom)
        return _signed(sign, Fraction(int(top or latex_top), below)) if below else None
    if match := _MIXED.match(text):
        sign, whole, top, bottom, latex_top, latex_bottom = match.groups()
        below = int(bottom or latex_bottom)
        return _signed(sign, int(whole) + Fraction(int(top or latex_top), below)) if below else None
    return None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def canonical(answer: str) -> str:
    """The name of the class that an answer belongs to when votes are counted.

    Numbers: equal values give equal names, whatever the notation (`1,000`, `1000.0`, `$1000`, `2000/2`
    give `1000`; `0.5` and `1/2` give `1/2`). A per cent sign is dropped: in one problem's answers `50%`
    and `50` mean the same far more often than not. `x = 5` counts as `5`. Everything else is
    compared as text without LaTeX typography and needless spaces, words without regard to case
    (capitals alone, such as `ABC`, stay). Two different names may still be equal expressions, which
    only `Grader` decides. The name of a name is itself.
    """
    for _ in range(len(answer) + 2):
        name = _name(answer)
        if name == answer:
            break
        answer = name
    return answer


def _name(answer: str) -> str:
    """One pass of `canonical`: what one layer of typography hides needs another."""
    text = _ASSIGNMENT.sub("", tidy(answer))
    text = _without_unit(text.removesuffix("%").rstrip())
    value = as_number(text)
    if value is not None:
        return str(value)
    text = _NEEDLESS_SPACE.sub("", _TEXT.sub(r"\1", text))
    # Capitals alone are a name (of a figure's corners), not a shouted word.
    return text.lower() if re.sub("[- ]", "", text).isalpha() and not text.isupper() else text


def compare_plain(left: str, right: str) -> bool | None:
    """Whether two tidied answers are equal if that needs no algebra; else None.

    Decides equal texts and pairs of plain numbers. math-verify compares decimals after rounding to six
    places, so two numbers that are different but that close are left to it.
    """
    if left == right:
        return bool(left) or None
    a, b = as_number(left), as_number(right)
    if a is None or b is None:
        return None
    if a == b:
        return True
    both_exact = "." not in left + right
    return False if both_exact or abs(a - b) > _TOLERANCE else None
