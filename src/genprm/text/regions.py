"""Parts of a text that no step boundary may cut: code fences, displays, environments, tables."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence

_FENCE = re.compile(r"^[ \t>]*(?P<fence>`{3,}|~{3,})", re.MULTILINE)
_OPENERS = re.compile(r"\\\[|(?<!\\)\$\$|\\begin\{(?P<name>[a-zA-Z]+\*?)\}")
_TABLE = re.compile(r"(?:^[ \t]*\|.*\n?){2,}", re.MULTILINE)

Span = tuple[int, int]


def protected_spans(text: str) -> list[Span]:
    """Where fences, displays, environments and tables stand: start and end of each, in order, none overlapping.

    A fence that is never closed reaches to the end of the text, as in Markdown; any other opener that is never closed
    protects nothing.
    """
    fences = list(_fences(text))
    others = [span for span in _closed(text) if not is_inside(span[0], fences)]
    tables = [match.span() for match in _TABLE.finditer(text)]
    return _merged([*fences, *others, *tables])


def is_inside(position: int, spans: Sequence[Span]) -> bool:
    """Whether a position lies in one of these ordered spans, after its first character."""
    index = bisect.bisect_left(spans, (position, 0)) - 1
    return index >= 0 and spans[index][0] < position < spans[index][1]


def _fences(text: str) -> Iterable[Span]:
    start, fence = -1, ""
    for match in _FENCE.finditer(text):
        if start < 0:
            start, fence = match.start(), match["fence"]
        elif match["fence"].startswith(fence) and not text[match.end() :].split("\n", 1)[0].strip():
            yield start, match.end()
            start = -1
    if start >= 0:
        yield start, len(text)


def _closed(text: str) -> Iterable[Span]:
    end = 0
    missing: set[str] = set()
    for match in _OPENERS.finditer(text):
        closer = {r"\[": r"\]", "$$": "$$"}.get(match[0]) or f"\\end{{{match['name']}}}"
        if match.start() < end or closer in missing:
            continue
        close = text.find(closer, match.end())
        if close < 0:
            missing.add(closer)
            continue
        end = close + len(closer)
        yield match.start(), end


def _merged(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
