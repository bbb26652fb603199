"""Python code blocks in what models write, however they are indented, quoted, tagged or closed.

Models put a block into a list item or a quotation, write `~~~` for the fence, attributes after the language, or the
language as `Python` or `py`. What is executed is the code that a reader would see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

FENCE_OPEN = "```python\n"

_LANGUAGE = r"(?:i?python|py)(?:3(?:\.\d+)?)?(?![\w+#.-])"
# Whole runs of marks, never a part of one, so that a line of nothing else is not read from each of its marks.
PYTHON_FENCE = (
    rf"(?:^[ \t>]*)?(?:(?<!`)`{{3,}}+|(?<!~)~{{3,}}+)[ \t]*(?:\{{[ \t]*\.?|\.)?{_LANGUAGE}[^\n`]*\n"
)
"""A line that opens a Python block; compile it with IGNORECASE and MULTILINE."""

# The look-ahead says the same as the rest, but rules out most places at a glance.
_OPENING = re.compile(rf"(?=[ \t>`~]){PYTHON_FENCE}", re.IGNORECASE | re.MULTILINE)
_FENCE = re.compile(r"([ \t>]*)(`{3,}|~{3,})")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A closed Python fence: `text[start:end]` is the whole of it, `code` what is to be executed."""

    code: str
    start: int
    end: int


def find_code(text: str, start: int = 0) -> CodeBlock | None:
    """The first closed Python fence whose opening stands at or after `start`.

    A fence that opens another one at once counts as one: a model that is given an opened fence may open its own.
    """
    opening = _OPENING.search(text, start)
    found = None if opening is None else CodeFinder(text).block(opening)
    return found if isinstance(found, CodeBlock) else None


class CodeFinder:
    """Reads the blocks of a text in their order. It remembers fences that never close, so no text of openings is slow."""

    def __init__(self, text: str) -> None:
        self._text = text
        # Of each mark the shortest fence that nothing closes from where it was looked for.
        self._unclosed: dict[str, int] = {}

    def block(self, opening: re.Match[str]) -> CodeBlock | int:
        """The block that a match of `PYTHON_FENCE` opens, or where reading goes on if nothing closes it."""
        text, inner = self._text, opening
        while nested := _OPENING.match(text, _after_space(text, inner.end())):
            inner = nested
        fence = _FENCE.match(inner[0])
        assert fence is not None
        mark, length = fence[2][0], len(fence[2])
        if length >= self._unclosed.get(mark, length + 1):
            return inner.end()
        # The opening's own line break may serve the closing fence too: an empty block.
        closing = closing_fence(fence[2]).search(text, inner.end() - 1)
        if closing is None:
            self._unclosed[mark] = length
            return inner.end()
        code = text[inner.end() : max(inner.end(), closing.start())]
        return CodeBlock(_unwrapped(code, quotes=fence[1].count(">")), opening.start(), closing.end())


def _after_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return start if space is None else space.end()


@lru_cache(maxsize=32)
def closing_fence(opening: str = "```") -> re.Pattern[str]:
    """The line that closes a fence: the same character, at least as often."""
    return re.compile(rf"\n[ \t>]*{opening[0]}{{{len(opening)},}}[ \t]*\r?(?:\n|\Z)")


def _unwrapped(code: str, *, quotes: int) -> str:
    """Code without its quotation marks, carriage returns, and the indentation of its first line."""
    if not quotes and "\r" not in code and code and not code[0].isspace():
        return code  # what most models write most of the time
    lines = [line.removesuffix("\r") for line in code.split("\n")]
    if quotes:
        mark = re.compile(rf"[ \t]*(?:>[ \t]?){{1,{quotes}}}")
        lines = [mark.sub("", line, count=1) if mark.match(line) else line for line in lines]
    first = next((line for line in lines if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip(" \t"))]
    if indent:
        lines = [line.removeprefix(indent) if line.strip() else "" for line in lines]
    return "\n".join(lines)
