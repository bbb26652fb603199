"""Text-level forms of answers: tidied, and plain numbers compared exactly.

What counts as a plain number: an integer or decimal (thousands commas allowed), a fraction of two
integers (`a/b`, `\\frac{a}{b}`), a mixed number, or scientific notation (`1e-05`, `2 \\times 10^{3}`), each with an
optional sign, currency sign, and unit.
"""

from __future__ import annotations

import re
from fractions import Fraction

from genprm.domains.math.notation import from_unicode
from genprm.domains.math.words import leading_words, number_of_words

_SPACES = re.compile(r"(?:(?<!\\)\\(?:[,;:!> ]|q?quad(?![a-zA-Z]))|~|\u00a0|\u2009|\u202f)")
TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|up)?|math(?:rm|bf|sf|it|tt)|mbox|operatorname|bm|boldsymbol|emph|underline)\s*\{([^{}]*)\}"
)
_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({\\-])")
_BRACKET_SIZES = re.compile(r"\\(?:left|right)(?![a-zA-Z])")
_FRAC_NAMES = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_FRAC_BARE = re.compile(r"\\frac\s*(\{[^{}]*\}|\d)\s*(\{[^{}]*\}|\d)")
_TEXT_UNIT = re.compile(
    r"(?<=[\d})\]!])\s*\\(?:text|mbox|mathrm|textrm)\s*\{\s*(?P<unit>[A-Za-z][A-Za-z ./]*)\}(?:\s*\^\s*\{?[23]\}?)?$"
)
_DEGREES = re.compile(
    r"(?:\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|°)(?:\s*(?:\\(?:text|mathrm)\s*\{\s*[CF]\s*\}|[CF](?![A-Za-z])))?"
)
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:,\d{3})+)(?![\d,])")
_STRAY_BACKSLASH = re.compile(r"(?<!\\)\\(?=\d)|\\+$")
_CURRENCIES = re.compile(
    r"\b(?:US|AU|CA|NZ|HK|SG|C|A)(?=\\?\$\s?\d)|\\?\$|[€£¥₹₩₽₺₫]|(?<=\d)\s*(?:元|円|원)"
)
_HEDGE = re.compile(
    r"^(?:(?:approximately|about|around|roughly|nearly|almost|exactly|precisely|only|just|indeed|simply|therefore|thus"
    r"|equal to|equals)\s+|\\approx\s*|[≈:=]\s*)+(?=\S)",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"\s*(?:\\(?:text|mbox|mathrm)\s*\{\s*)?\bper\s?cent\b\s*\}?$", re.IGNORECASE)
_REPEATING = re.compile(r"^([+-]?)(\d*)\.(\d*)\\(?:overline|bar|dot)\s*(?:\{\s*(\d+)\s*\}|(\d))$")
_CLOCK = re.compile(r"^0?(\d{1,2}):(\d{2})\s*(?:\\text\s*\{\s*)?([ap])\.?\s?m\.?\s*\}?$", re.IGNORECASE)
_EMPTY = re.compile(r"^(?:\\varnothing|\\emptyset|\\\{\s*\\\}|\{\s*\})$")
_REMARK = re.compile(
    r"(?<=[\w}%])\s+\((?=[^()]*[A-Za-z]{3})(?!\s*\\?(?:sin|cos|tan|log|exp|sqrt)\b)[A-Za-z][^()]*\)$"
)
_SIGN_WORD = re.compile(r"^(?:minus|negative)\s+(?=[\d.\\])", re.IGNORECASE)
# Behind a root or pi only words that measure are units: others may be factors.
_MEASURE = re.compile(
    r"(?:(?<=[})])|(?<=\\pi))(?:\s+|\s*\\(?:text|mbox|mathrm|textrm)\s*\{\s*)"
    r"(?:(?:square|cubic|sq\.?|cu\.?)\s*)?"
    r"(?:units?|(?:centi|milli|kilo)?met(?:er|re)s?|[cmk]m|m|in(?:ch(?:es)?)?|f(?:oo|ee)?t|yards?|yd|miles?|degrees?|radians?)"
    r"\.?(?:\s*\^\s*\{?[23]\}?)?\s*\}?(?:\s*\^\s*\{?[23]\}?)?$"
)
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
    r"^(?P<number>[+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+|(?:\d+\s+)?\d+\s*/\s*\d+|\d*\s*\\frac\{\d+\}\{\d+\})%?)"
    r"\s*(?P<unit>(?:[A-Za-z][A-Za-z. -]*)?(?:/\s*[A-Za-z ]+)?)(?:\s*\^\s*\{?[23]\}?)?\.?$"
)
# Words that change a number's value or join several numbers: such an answer is left as it stands.
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+",
        """and or to of than between mod base choose by over times plus minus point root roots pi e i x y z n k sqrt sin
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
    text = _PERCENT.sub("%", from_unicode(answer.strip().strip("*"))).replace("\\%", "%")
    text = _CURRENCIES.sub("", text).replace("\\(", "").replace("\\)", "")
    text = _STRAY_BACKSLASH.sub("", text.strip())
    text = whole[1] if (whole := TEXT.fullmatch(text)) else text
    text = _SIGN_WORD.sub("-", _HEDGE.sub("", _BRACKET_SIZES.sub("", text).strip()))
    text = _POWER.sub("^", text)
    text = _FRAC_NAMES.sub(r"\\frac", text)
    text = _FRAC_BARE.sub(_braced, text)
    text = _LATEX_THOUSANDS.sub("", _SPACES.sub(" ", text))
    text = _without_thousands(_DEGREES.sub("", text))
    text = re.sub(r"\s+", " ", text).strip()
    text = text.rstrip(".").rstrip()
    if _SPACED_THOUSANDS.match(text):
        text = text.replace(" ", "")
    return number_of_words(text) or _special(text) or _without_mixed(_without_unit(text))


def _special(text: str) -> str | None:
    """Times of day, repeating decimals and the empty set in one spelling each; None for anything else."""
    if match := _CLOCK.match(text):
        return f"{match[1]}:{match[2]} {match[3].upper()}M"
    if match := _REPEATING.match(text):
        sign, whole, fixed, *repeated = match.groups()
        again = next(filter(None, repeated))
        if len(whole + fixed + again) > _MAX_DIGITS:
            return None
        scale = 10 ** len(fixed)
        value = Fraction(
            int((whole + fixed) or "0") * (10 ** len(again) - 1) + int(again),
            scale * (10 ** len(again) - 1),
        )
        return f"{sign}{value.numerator}/{value.denominator}"
    return r"\emptyset" if _EMPTY.match(text) else None


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
    """The number alone if a unit in words follows it, or a remark in parentheses."""
    if (match := _REMARK.search(text)) and as_number(
        bare := _without_unit(text[: match.start()])
    ) is not None:
        return bare
    if (match := _TEXT_UNIT.search(text)) and _is_unit(match["unit"]):
        return text[: match.start()]
    spoken = leading_words(text)
    if spoken and _is_unit(spoken[1]) and (number := number_of_words(spoken[0])):
        return number
    match = _NUMBER_WITH_UNIT.match(TEXT.sub(r" \1 ", text).strip())
    if match and match["unit"] and _is_unit(match["unit"]):
        return match["number"]
    return _MEASURE.sub("", text)


def _is_unit(text: str) -> bool:
    words = re.findall("[a-z]+", text.lower())
    short = {"m", "l"} | ({"s", "h", "g"} if "/" in text else set()) | ({"a"} if len(words) > 1 else set())
    return (
        bool(words)
        and all(len(word) > 1 or word in short for word in words)
        and not _NOT_UNITS.intersection(words)
    )


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
