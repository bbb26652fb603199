"""Colouring Python for reading. Works on anything that a model wrote, complete or not."""

from __future__ import annotations

import builtins
import keyword
import re

from markupsafe import Markup, escape

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    |(?P<string>(?i:\b[rbuf]{1,2})?(?:\"\"\"[\s\S]*?(?:\"\"\"|\Z)|'''[\s\S]*?(?:'''|\Z)
        |\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?))
    |(?P<number>\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.[\d_]*)?(?:[eE][+-]?\d+)?)j?)
    |(?P<name>[^\W\d]\w*)""",
    re.VERBOSE,
)
_KEYWORDS = frozenset(keyword.kwlist)
_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_"))


def highlight_python(code: str) -> Markup:
    """HTML of a piece of Python: the text itself, escaped, with `<span class="tok-...">` around its tokens."""
    parts: list[Markup] = []
    position = 0
    for match in _TOKEN.finditer(code):
        kind = _kind(match)
        if kind is None:
            continue
        parts.append(escape(code[position : match.start()]))
        parts.append(Markup('<span class="tok-{}">{}</span>').format(kind, match.group()))
        position = match.end()
    parts.append(escape(code[position:]))
    return Markup("").join(parts)


def _kind(match: re.Match[str]) -> str | None:
    if match.lastgroup != "name":
        return match.lastgroup
    if match.group() in _KEYWORDS:
        return "keyword"
    return "builtin" if match.group() in _BUILTINS else None
