"""Text-level forms of answers: tidied, and plain numbers compared exactly.

What counts as a plain number: an integer or decimal (thousands commas allowed), a fraction of two
integers (`a/b`, `\\frac{a}{b}`), a mixed number, or scientific notation (`1e-05`, `2 \\times 10^{3}`), each with an
optional sign, currency sign, and unit.
"""

from __future__ import annotations

import re
from fractions import Fraction

from genprm.domains.math.notation import from_unicode, number_of_words

_SPACES = re.compile(r"(?:(?<!\\)\\(?:[,;:!> ]|q?quad(?![a-zA-Z]))|~|\u00a0|\u2009|\u202f)")
TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({\\-])")
_BRACKET_SIZES = re.compile(r"\\(?:left|right)(?![a-zA-Z])")
_FRAC_NAMES = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_FRAC_BARE = re.compile(r"\\frac\s*(\{[^{}]*\}|\d)\s*(\{[^{}]*\}|\d)")
_TEXT_UNIT = re.compile(
    r"(?<=[\d})\]!])\s*\\(?:text|mbox|mathrm|textrm)\s*\{\s*(?P<unit>[A-Za-z][A-Za-z ./]*)\}(?:\s*\^\s*\{?[23]\}?)?$"
)
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|°")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:,\d{3})+)(?![\d,])")
_STRAY_BACKSLASH = re.compile(r"(?<!\\)\\(?=\d)")
_BRACKETS = (("(", ")"), ("[", "]"), (r"\{", r"\}"))
_LATEX_THOUSANDS = re.compile(r"(?<=\d)\{,\}(?=\d{3})")
_SPACED_THOUSANDS = re.compile(r"^-?\d{1,3}(?: \d{3})+$")
_SCIENTIFIC = re.compile(
    r"^([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:[eE]\+?|\s*(?:\\times|\\cdot|[x*])\s*10\s*\^\s*\{?\s*)(-?\d{1,3})\s*\}?$"
)
_INTEGER_OR_DECIMAL = re.compile(r"^([+-]?)(\d+(?:\.\d*)?|\.\d+)$")
_FRACTION = re.compile(r"^([+-]?)\s*(?:(\d+)\s*/\s*(\d+)|\\frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\})$")
_MIXED = re.compile(r"^([+-]?)(\d+)\s*(?:\s(\d+)\s*/\s*(\d+)|\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\})$")
_NUMBER_WITH_UNIT = re.compile(
    r"^(?P<number>[+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+|\d+\s*/\s*\d+|\d*\\frac\{\d+\}\{\d+\}))"
    r"\s*(?P<unit>[A-Za-z][A-Za-z ]*(?:/[A-Za-z ]+)?)(?:\s*\^\s*\{?[23]\}?)?\.?$"
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

    The value is not changed. `1{,}000` and `1,000` become `1000`; `$5` and `5 dollars` become `5`; `½` becomes
    `\\frac{1}{2}`, `5 sevenths` `5/7`, `12th` `12`. `x = 5`, `12, 34` and `(3,500)` stay: a statement, a list, a pair.
    """
    text = from_unicode(answer.strip().strip("*")).replace("\\%", "%")
    text = text.replace("\\$", "").replace("$", "").replace("\\(", "").replace("\\)", "")
    text = _STRAY_BACKSLASH.sub("", text)
    text = _BRACKET_SIZES.sub("", text.replace("€", "").replace("£", ""))
    text = _POWER.sub("^", text)
    text = _FRAC_NAMES.sub(r"\\frac", text)
    text = _FRAC_BARE.sub(_braced, text)
    text = _LATEX_THOUSANDS.sub("", _SPACES.sub(" ", text))
    text = _without_thousands(_DEGREES.sub("", text))
    text = re.sub(r"\s+", " ", text).strip()
    text = text.rstrip(".").rstrip()
    if _SPACED_THOUSANDS.match(text):
        text = text.replace(" ", "")
    return number_of_words(text) or _without_mixed(_without_unit(text))


def _braced(match: re.Match[str]) -> str:
    top, bottom = (part.strip("{}") for part in match.groups())
    return f"\\frac{{{top}}}{{{bottom}}}"


def _without_thousands(text: str) -> str:
    """Without the commas between thousands; inside brackets a comma parts members, unless zeros show otherwise."""

    def joined(match: re.Match[str]) -> str:
        before = text[: match.start()]
        inside = any(before.count(left) > before.count(right) for left, right in _BRACKETS)
        return match[0] if inside and ",000" not in match[0] else match[0].replace(",", "")

    return _THOUSANDS.sub(joined, text)


def _without_mixed(text: str) -> str:
    """A mixed number as the single fraction that it means (`2 1/2` is `5/2`)."""
    match = _MIXED.match(text)
    value = as_number(text) if match else None
    return text if value is None else f"{value.numerator}/{value.denominator}"


def _without_unit(text: str) -> str:
    """The number alone if a unit in words follows it."""
    if (match := _TEXT_UNIT.search(text)) and _is_unit(match["unit"]):
        return text[: match.start()]
    match = _NUMBER_WITH_UNIT.match(TEXT.sub(r" \1 ", text).strip())
    return match["number"] if match and _is_unit(match["unit"]) else text


def _is_unit(text: str) -> bool:
    words = re.findall("[a-z]+", text.lower())
    short = {"m"} | ({"s", "h", "g", "l"} if "/" in text else set())
    return all(len(word) > 1 or word in short for word in words) and not _NOT_UNITS.intersection(words)


def as_number(text: str) -> Fraction | None:
    """The exact value of a tidied plain number; None for anything else."""
    if sum(char.isdigit() for char in text) > _MAX_DIGITS or not text.isascii():
        return None
    if match := _INTEGER_OR_DECIMAL.match(text):
        sign, digits = match.groups()
        return _signed(sign, Fraction(digits.rstrip(".") or "0"))
    if match := _SCIENTIFIC.match(text):
        sign, digits, exponent = match.groups()
        return _signed(sign, Fraction(digits) * Fraction(10) ** int(exponent))
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


def compare_plain(left: str, right: str) -> bool | None:
    """Whether two tidied answers are equal if that needs no algebra; else None.

    Decides equal texts and pairs of plain numbers. Exact numbers are compared exactly. A decimal may be a rounded value:
    it is equal to what differs from it by at most two millionths, of one or of the larger number if that is below one.
    A per cent sign on one side alone changes nothing or means hundredths: in answers `50%` stands for 50 as for 0.5.
    """
    if left == right:
        return bool(left) or None
    if left.endswith("%") != right.endswith("%"):
        bare, percent = sorted((left, right), key=lambda text: text.endswith("%"))
        same = compare_plain(percent[:-1].rstrip(), bare)
        number = as_number(percent[:-1].rstrip())
        return (
            same
            if same or same is None or number is None
            else close(number / 100, as_number(bare), exact=False)
        )
    a, b = as_number(left.removesuffix("%").rstrip()), as_number(right.removesuffix("%").rstrip())
    return close(a, b, exact="." not in left + right)


def close(left: Fraction | None, right: Fraction | None, *, exact: bool) -> bool | None:
    """Whether two numbers are equal, within a rounding of six places unless they are exact; None if one is missing."""
    if left is None or right is None:
        return None
    allowed = 0 if exact else _TOLERANCE * min(Fraction(1), max(abs(left), abs(right)))
    return abs(left - right) <= allowed
