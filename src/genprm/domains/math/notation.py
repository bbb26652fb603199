"""Other spellings of mathematics, as LaTeX: Unicode, calculator notation, number words, ordinals."""

from __future__ import annotations

import re

_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5),
    "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8), "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip
_SIGNS = str.maketrans(
    {
        "−": "-", "–": "-", "‐": "-", "‑": "-", "⁄": "/", "∕": "/", "÷": "/", "∞": r"\infty ", "π": r"\pi ",
        "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ",
        "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "θ": r"\theta ", "％": "%", "，": ",", "（": "(",
        "）": ")", "：": ":", "＝": "=",
    }
)  # fmt: skip
_RAISED = {**dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))}
_SUPERSCRIPT = re.compile("[" + "".join(_RAISED) + "]+")
_ROOT = re.compile(r"([√∛])\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[a-zA-Z]))")
_FUNCTIONS = (
    "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "max",
    "min", "gcd",
)  # fmt: skip
_NAMED = re.compile(r"(?<![\\a-zA-Z])(" + "|".join(_FUNCTIONS) + r")(?![a-zA-Z])")
_PI = re.compile(r"(?<![\\a-zA-Z])(?:pi|PI|Pi)(?![a-zA-Z])")
_INFINITY = re.compile(r"(?<![\\a-zA-Z])(?:infinity|inf|oo)(?![a-zA-Z])", re.IGNORECASE)
_CALL = re.compile(r"(?<![\\a-zA-Z])(sqrt|exp|abs)\s*\(")
_LONG_POWER = re.compile(r"\^\s*(-?\d{2,}|-\w)")
_POWER_OPEN = re.compile(r"\^\s*\(")
_ORDINAL = re.compile(
    r"([+-]?\d[\d,]*)\s*(?:\^?\s*\{?\s*(?:\\(?:text|mathrm|textsuperscript)\s*\{\s*)?)(?:st|nd|rd|th)\s*\}*",
    re.IGNORECASE,
)
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_WORDS = {
    **{word: number for number, word in enumerate(_UNITS)},
    **{word: 20 + 10 * number for number, word in enumerate(_TENS)},
    **{
        f"{ten}-{_UNITS[unit]}": 20 + 10 * number + unit
        for number, ten in enumerate(_TENS)
        for unit in range(1, 10)
    },
}
_PART = re.compile(r"(?P<sign>-?)(?P<top>\d+|[a-z-]+)[ -](?P<part>[a-z]+)", re.IGNORECASE)


def from_unicode(text: str) -> str:
    """Fractions, signs, roots and raised digits of Unicode as LaTeX; `2½` becomes the mixed number `2 1/2`."""
    if text.isascii():
        return text
    for sign, (top, bottom) in _VULGAR.items():
        text = re.sub(rf"(?<=\d)\s*{sign}", f" {top}/{bottom}", text).replace(
            sign, f"\\frac{{{top}}}{{{bottom}}}"
        )
    text = _SUPERSCRIPT.sub(lambda match: "^{" + "".join(_RAISED[char] for char in match[0]) + "}", text)
    text = _ROOT.sub(_root, text)
    return text.translate(_SIGNS)


def _root(match: re.Match[str]) -> str:
    inside = next(part for part in match.groups()[1:] if part is not None)
    return (r"\sqrt[3]{" if match[1] == "∛" else r"\sqrt{") + inside + "}"


def number_of_words(text: str) -> str | None:
    """A whole answer in words, or an ordinal, as a number: `seven`, `5 sevenths`, `12th`; None for anything else."""
    if ordinal := _ORDINAL.fullmatch(text):
        return ordinal[1]
    words = text.lower()
    if words in _WORDS:
        return str(_WORDS[words])
    match = _PART.fullmatch(words)
    if match is None:
        return None
    bottom = _PARTS.get(match["part"]) or _PARTS.get(match["part"].removesuffix("s"))
    top = (
        match["top"]
        if match["top"].isdigit()
        else _WORDS.get(match["top"], 1 if match["top"] == "a" else None)
    )
    return None if bottom is None or top is None else f"{match['sign']}{top}/{bottom}"


def from_calculator(text: str) -> str:
    """`exp(16)`, `sqrt(2)`, `pi/2`, `x^(1/2)`, `2*x` as LaTeX; what is LaTeX already stays."""
    text = _PI.sub(r"\\pi ", _INFINITY.sub(r"\\infty ", text))
    text = _braced(_NAMED.sub(r"\\\1 ", text))
    text = _LONG_POWER.sub(r"^{\1}", text)
    return text.replace("*", r" \cdot ")


def _braced(text: str) -> str:
    """Calls and parenthesised powers with braces; the innermost first, each at its own closing parenthesis."""
    while match := (_CALL.search(text) or _POWER_OPEN.search(text)):
        close = _closing(text, match.end())
        if close is None:
            return text
        inside, rest = text[match.end() : close], text[close + 1 :]
        name = match[1] if match.re is _CALL else "^"
        made = {
            "sqrt": rf"\sqrt{{{inside}}}",
            "exp": f"e^{{{inside}}}",
            "abs": f"|{inside}|",
            "^": f"^{{{inside}}}",
        }
        text = text[: match.start()] + made[name] + rest
    return text


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if not depth:
            return index
    return None
