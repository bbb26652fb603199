"""Splitting a solution's text into steps, and joining steps into text again.

Styles: `auto` finds out how a solution is written; `step_markers` splits at lines that open with `Step k:` (step
forcing, method part 1), `paragraphs` at blank lines and `lines` at every line break, and nothing else.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Literal

from genprm.text.regions import Span, is_inside, protected_spans
from genprm.text.thoughts import without_thoughts

StepStyle = Literal["auto", "step_markers", "paragraphs", "lines"]

SEPARATORS: dict[StepStyle, str] = {
    "auto": "\n\n",
    "step_markers": "\n\n",
    "paragraphs": "\n\n",
    "lines": "\n",
}

# A marker opens a line. Plain markers need their colon or point ("Step 2 is wrong" is prose); headings and bold
# text mark themselves as titles, so that "## Step 3" and "**Step 2**" need none. "Step 1.1" is part of a step.
_MARKER = re.compile(
    r"""^[ \t]*(?:(?:[-*>]|[^\w\s#*_\[\]()\\$`|~-]{1,3})[ \t]+)?
    (?:
        \#{1,6}[ \t]*[*_]{0,3}Step[ \t]+(?P<heading>\d{1,9})(?!\.?\d)\b
      | [*_]{1,3}Step[ \t]+(?P<bold>\d{1,9})(?!\.?\d)(?:[ \t]+of[ \t]+\d+)?[ \t]*(?:[:：.)]|[*_]{1,3}|[-–—])
      | Step[ \t]+(?P<plain>\d{1,9})(?!\.?\d)(?:[ \t]+of[ \t]+\d+)?[ \t]*(?:[:：]|[.)](?=\s)|[-–—][ \t])
      | (?:Step[ \t]+\(?|[\[(]Step[ \t]+)\#?(?P<bracketed>\d{1,9})[\])]?[ \t]*(?:(?<=[\])])(?=\s)|[:：])
      | (?:\#{1,6}[ \t]*)?[*_]{0,3}步骤[ \t]*(?P<chinese>\d{1,9})[ \t]*[:：.、*]
      | (?:\#{1,6}[ \t]*)?[*_]{0,3}第[ \t]*(?P<ordinal>\d{1,9}|[一二三四五六七八九十]{1,3})[ \t]*步[ \t]*[:：,，、*]
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_DIGITS = {digit: number for number, digit in enumerate("一二三四五六七八九", 1)}
_SECTION = re.compile(
    r"^(?P<indent> {0,3})(?:\#{1,6}[ \t]*)?[*_]{0,3}(?:\(?(?P<number>\d{1,3})[.)]|\((?P<letter>[a-h])\))"
    r"[*_]{0,3}[ \t]+\S",
    re.MULTILINE,
)
_BLANK = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_LINE = re.compile(r"\n+[ \t]*")
_CONCLUDES = re.compile(
    r"[*_]*(?:therefore|thus|hence|so|in conclusion|finally|the final answer|answer)\b", re.IGNORECASE
)
_HASHES = re.compile(r"#{1,6}\s")
_TITLE = re.compile(r"[*_]{2,3}[^*_\n]+[*_]{2,3}[:.]?$|[^\n]*:[*_]{0,3}$")
_WHITE = re.compile(r"\s*")
_JOINED = re.compile(
    r"\\\[|\$\$|\\begin\{|\||`{3}|~{3}|[-*+•]\s|\(?\d{1,2}[.)]\s|[ivx]+[.)]\s|where\b|[a-z(,;]"
)
_SENTENCE_ENDS = (".", "!", "?", ":", ")", "]", "$", "*", "`", "|")
_FRAGMENT = 24
# A list of sections is the solution's own structure if it makes up most of it.
_SHARE = 0.5


def split_steps(text: str, style: StepStyle = "auto") -> tuple[str, ...]:
    r"""Split a solution into its steps, each stripped, none empty, nothing lost but white space and thoughts.

    `auto` takes the first of these that gives at least two steps:

    - lines that open with `Step k:`, also as a heading or in bold, whatever the first k; sub-steps (`Step 1.2`),
      markers in code and a plan's list of the steps to come do not count;
    - sections with numbers or letters (`1. ...`, `(2) ...`, `(c) ...`) that make up most of the text; a conclusion after
      the last one is a step, items of a list inside a section are none;
    - paragraphs; a heading or a fragment belongs to what follows, a display, a table, code and the items of a list to
      what they follow;
    - lines.

    What a model thought before it answered (`<think>...</think>`) is no step, and left out. No boundary cuts a code
    fence, a display, a LaTeX environment or a table. Text before the first marker belongs to
    the first step. A text that none of these splits is one step; an empty one has none.

    Args:
        style: `step_markers`, `paragraphs` and `lines` split at these alone, protected or not.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        return ()
    if style == "auto":
        return _auto(without_thoughts(text).strip() or text)
    if style == "lines":
        return _stripped(text.split("\n"))
    if style == "paragraphs":
        return _stripped(_BLANK.split(text))
    return _cut(text, [match.start() for match in _MARKER.finditer(text)][1:])


def join_steps(
    steps: Sequence[str], style: StepStyle = "step_markers", *, separator: str | None = None
) -> str:
    """Join steps into one text with the style's separator, or with the one given."""
    return (SEPARATORS[style] if separator is None else separator).join(steps)


def step_number(step: str) -> int | None:
    """The number k of the marker that a step opens with; None if it opens with none."""
    match = _MARKER.match(step)
    return None if match is None else _number(match)


def continuation_prefix(
    steps: Sequence[str], style: StepStyle = "step_markers", *, separator: str | None = None
) -> str:
    """The assistant prefix from which a policy continues after `steps` (step forcing, method part 1).

    With step markers it ends with the next step's own marker, `Step 1:` if there are no steps; the other styles end with
    the separator. `auto` forces a marker if the last step has one.
    """
    separator = SEPARATORS[style] if separator is None else separator
    head = "".join(step + separator for step in steps)
    if style == "auto":
        number = step_number(steps[-1]) if steps else 0
        return head if number is None else f"{head}Step {number + 1}:"
    return f"{head}Step {len(steps) + 1}:" if style == "step_markers" else head


def _auto(text: str) -> tuple[str, ...]:
    spans = protected_spans(text)
    ways: tuple[Callable[[str, list[Span]], tuple[str, ...]], ...] = (
        _marked,
        _sections,
        _paragraphs,
        _by_lines,
    )
    for way in ways:
        steps = way(text, spans)
        if len(steps) > 1:
            return steps
    return (text,)


def _marked(text: str, spans: list[Span]) -> tuple[str, ...]:
    markers = [match for match in _MARKER.finditer(text) if not is_inside(match.start(), spans)]
    return _cut(text, [match.start() for match in _without_plan(text, markers)][1:])


def _without_plan(text: str, markers: list[re.Match[str]]) -> list[re.Match[str]]:
    """Without a list of the steps to come: one line for each, after which the numbers start again."""
    for index in range(1, len(markers)):
        if _number(markers[index]) > _number(markers[index - 1]):
            continue
        if _number(markers[index]) != _number(markers[0]):
            return markers  # a slip, and no start
        bounds = [match.start() for match in markers[:index]] + [markers[index].start()]
        lines = [text[a:b].strip().count("\n") for a, b in itertools.pairwise(bounds[:-1])]
        return markers[index:] if index > 1 and not any(lines) else markers
    return markers


def _sections(text: str, spans: list[Span]) -> tuple[str, ...]:
    for run in _numbered(text, spans):
        if len(run) > 1 and len(text) - run[0] >= _SHARE * len(text) and not _is_plan(text, run):
            steps = _cut(text, run[1:])
            return (*steps[:-1], *_without_conclusion(steps[-1]))
    return (text,)


def _numbered(text: str, spans: list[Span]) -> list[list[int]]:
    """Where the items of each list start that counts from 1 or (a); a list inside an item is another one."""
    runs: list[list[int]] = []
    # The list that is open at each indentation, by the form of its marks.
    opened: dict[tuple[str, bool], list[int]] = {}
    for match in _SECTION.finditer(text):
        if is_inside(match.start(), spans):
            continue
        letter = match["letter"]
        key = match["indent"], letter is None
        number = int(match["number"]) if letter is None else ord(letter.lower()) - ord("a") + 1
        if number == 1:
            opened[key] = [match.start()]
            runs.append(opened[key])
        elif number == len(opened.get(key, ())) + 1:
            opened[key].append(match.start())
    return runs


def _is_plan(text: str, run: list[int]) -> bool:
    """Whether a list announces what the text after it does: one line for each item, then more text than the list has."""
    if any("\n" in text[a:b].strip() for a, b in itertools.pairwise(run)):
        return False
    head = text.find("\n", run[-1])
    if head < 0:
        return False
    rest = len(text) - head - 1
    return not _CONCLUDES.match(text, _after_white(text, head)) and rest > head - run[0]


def _without_conclusion(section: str) -> tuple[str, ...]:
    """The last section, and apart from it the paragraph that concludes the solution."""
    spans = protected_spans(section)
    ends = [match.end() for match in _BLANK.finditer(section) if _CONCLUDES.match(section, match.end())]
    return _cut(section, [end for end in ends if not is_inside(end, spans)][-1:])


def _paragraphs(text: str, spans: list[Span]) -> tuple[str, ...]:
    return _joined(text, [match.end() for match in _BLANK.finditer(text)], spans)


def _by_lines(text: str, spans: list[Span]) -> tuple[str, ...]:
    return _joined(text, [match.end() for match in _LINE.finditer(text)], spans)


def _joined(text: str, bounds: list[int], spans: list[Span]) -> tuple[str, ...]:
    """The parts between these bounds, without the bounds that part what belongs together."""
    kept: list[int] = []
    part = _Part(text, 0)
    for bound, after in itertools.pairwise([*bounds, len(text)]):
        if is_inside(bound, spans) or not part.grow(bound):
            continue
        if not (part.leads_on() or _JOINED.match(text[bound:after].strip())):
            kept.append(bound)
            part = _Part(text, bound)
    return _cut(text, kept)


class _Part:
    """A part that grows from bound to bound. It is never looked at as a whole, so that its length costs nothing."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = self._end = self._block = _after_white(text, start)
        self._one_line = True

    def grow(self, bound: int) -> bool:
        """Reach to a bound, without the white space before it; whether there is anything."""
        text, seen = self._text, self._end
        end = bound
        while end > seen and text[end - 1].isspace():
            end -= 1
        block = text.rfind("\n\n", seen, end)
        self._block = block + 2 if block >= 0 else self._block
        # Only what is new may hold a line break: the last block either began there or was looked at before.
        new = max(seen, self._block)
        self._one_line = (self._one_line or block >= 0) and text.find("\n", new, end) < 0
        self._end = max(end, seen)
        return self._end > self._start

    def leads_on(self) -> bool:
        """Whether it is a fragment, or its last block a heading, so that it belongs to what follows."""
        text, end = self._text, self._end
        if _HASHES.match(text, self._block, end):
            return True
        if self._one_line and _TITLE.match(text[self._block : end]):
            return True
        if end - self._start >= _FRAGMENT:
            return False
        part = text[self._start : end]
        return not part.endswith(_SENTENCE_ENDS) and "=" not in part


def _after_white(text: str, position: int) -> int:
    found = _WHITE.match(text, position)
    return position if found is None else found.end()


def _cut(text: str, bounds: Sequence[int]) -> tuple[str, ...]:
    return _stripped([text[a:b] for a, b in itertools.pairwise([0, *bounds, len(text)])])


def _stripped(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(stripped for part in parts if (stripped := part.strip()))


def _number(match: re.Match[str]) -> int:
    if not (ordinal := match["ordinal"]):
        return int(next(filter(None, match.groups())))
    if ordinal.isdigit():
        return int(ordinal)
    tens, ten, units = ordinal.rpartition("十")
    return 10 * (_DIGITS.get(tens, 1) if ten else 0) + _DIGITS.get(units, 0)
