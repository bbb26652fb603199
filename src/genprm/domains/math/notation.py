"""Other spellings of mathematics, as LaTeX: Unicode and calculator notation."""

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
        "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "θ": r"\theta ", "∅": r"\emptyset ", "≈": r"\approx ",
        "、": ",", "。": ".",
        # The full-width forms of ASCII ("２／３"), as East Asian keyboards write them.
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    }
)  # fmt: skip
_RANGE = re.compile(r"(?<=\d)–(?=\d)")
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


def from_unicode(text: str) -> str:
    """Fractions, signs, roots and raised digits of Unicode as LaTeX; `2½` becomes the mixed number `2 1/2`."""
    if text.isascii():
        return text
    text = _RANGE.sub(" to ", text).translate(_SIGNS)
    for sign, (top, bottom) in _VULGAR.items():
        text = re.sub(rf"(?<=\d)\s*{sign}", f" {top}/{bottom}", text).replace(
            sign, f"\\frac{{{top}}}{{{bottom}}}"
        )
    text = _SUPERSCRIPT.sub(lambda match: "^{" + "".join(_RAISED[char] for char in match[0]) + "}", text)
    return _ROOT.sub(_root, text)


def _root(match: re.Match[str]) -> str:
    inside = next(part for part in match.groups()[1:] if part is not None)
    return (r"\sqrt[3]{" if match[1] == "∛" else r"\sqrt{") + inside + "}"


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
