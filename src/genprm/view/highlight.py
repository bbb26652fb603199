"""Colouring Python for reading. Works on anything that a model wrote, complete or not."""

from __future__ import annotations

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer


def highlight_python(code: str) -> Markup:
    """HTML of a piece of Python: its text, escaped, with `<span class="tok-...">` around its tokens.

    Line ends become newlines, and the last line gets one.
    """
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    return Markup(highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="tok-")))
