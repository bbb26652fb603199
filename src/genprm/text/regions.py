"""Parts of a text that no step boundary may cut: code fences, displays, environments, tables."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence

_FENCE = re.compile(r"^[ \t>]*(?P<fence>`{3,}|~{3,})", re.MULTILINE)
_ENDS_LINE = re.compile(r"[^\S\n]*$", re.MULTILINE)
_OPENERS = re.compile(r"\\\[|(?<!\\)\$\$|\\begin\{(?P<name>[a-zA-Z]+\*?)\}")
_ENVIRONMENT_END = re.compile(r"\\end\{(?P<name>[a-zA-Z]+\*?)\}")
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
        elif match["fence"].startswith(fence) and _ENDS_LINE.match(text, match.end()):
            yield start, match.end()
            start = -1
    if start >= 0:
        yield start, len(text)


def _closed(text: str) -> Iterable[Span]:
    end = 0
    missing: set[str] = set()
    environments = _environment_ends(text)
    for match in _OPENERS.finditer(text):
        if match.start() < end or match[0] in missing:
            continue
        found = _close(text, match, environments)
        if found is None:
            missing.add(match[0])
            continue
        end = found
        yield match.start(), end


def _environment_ends(text: str) -> dict[str, list[int]]:
    """Where `\\end{name}` ends, by name. Found once: a text may open any number of environments and close none."""
    ends: dict[str, list[int]] = {}
    for match in _ENVIRONMENT_END.finditer(text):
        ends.setdefault(match["name"], []).append(match.end())
    return ends


def _close(text: str, opener: re.Match[str], environments: dict[str, list[int]]) -> int | None:
    """The end of what an opener begins; None if it is never closed."""
    if opener["name"] is not None:
        ends = environments.get(opener["name"], [])
        index = bisect.bisect_right(ends, opener.end())
        return ends[index] if index < len(ends) else None
    close = text.find(r"\]" if opener[0] == r"\[" else "$$", opener.end())
    return close + 2 if close >= 0 else None


def _merged(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
