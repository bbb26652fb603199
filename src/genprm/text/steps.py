"""Splitting a solution's text into steps, and joining steps into text again.

Three styles: `step_markers` (lines that open with `Step k:`; step forcing, method part 1),
`paragraphs` (blank lines) and `lines`. Splitting is stable: for every text x and style,
`split_steps(join_steps(split_steps(x)))` equals `split_steps(x)`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Literal

StepStyle = Literal["step_markers", "paragraphs", "lines"]

SEPARATORS: dict[StepStyle, str] = {"step_markers": "\n\n", "paragraphs": "\n\n", "lines": "\n"}

# A marker opens a line. Plain markers need their colon ("Step 2 is wrong" is prose); headings and bold
# text mark themselves as titles, so that "## Step 3" and "**Step 2**" need none.
_MARKER = re.compile(
    r"""^[ \t]*(?:[-*>][ \t]+)?
    (?:
        \#{1,6}[ \t]*[*_]{0,3}Step[ \t]+(?P<heading>\d+)\b
      | [*_]{1,3}Step[ \t]+(?P<bold>\d+)[ \t]*(?:[:：.)]|[*_]{1,3})
      | Step[ \t]+(?P<plain>\d+)[ \t]*[:：]
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_BLANK = re.compile(r"\n\s*\n")


def split_steps(text: str, style: StepStyle = "step_markers") -> tuple[str, ...]:
    """Split a solution into its steps, each stripped, none empty.

    A step keeps its whole text, marker included. Text before the first marker becomes part of the
    first step. A text without any marker is one step; an empty text has none.

    Args:
        style: `step_markers` splits at lines that open with `Step k:`, `paragraphs` at blank lines, `lines` at
            every line break.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        return ()
    if style == "lines":
        parts = text.split("\n")
    elif style == "paragraphs":
        parts = _BLANK.split(text)
    else:
        starts = [match.start() for match in _MARKER.finditer(text)]
        bounds = [0, *starts[1:], len(text)]
        parts = [text[a:b] for a, b in itertools.pairwise(bounds)]
    return tuple(stripped for part in parts if (stripped := part.strip()))


def join_steps(
    steps: Sequence[str], style: StepStyle = "step_markers", *, separator: str | None = None
) -> str:
    """Join steps into one text with the style's separator, or with the one given."""
    return (SEPARATORS[style] if separator is None else separator).join(steps)


def step_number(step: str) -> int | None:
    """The number k of the marker that a step opens with; None if it opens with none."""
    match = _MARKER.match(step)
    if match is None:
        return None
    return int(match["heading"] or match["bold"] or match["plain"])


def continuation_prefix(
    steps: Sequence[str], style: StepStyle = "step_markers", *, separator: str | None = None
) -> str:
    """The assistant prefix from which a policy continues after `steps` (step forcing, method part 1).

    With step markers it ends with the next step's own marker, `Step 1:` if there are no steps;
    the other styles end with the separator.
    """
    separator = SEPARATORS[style] if separator is None else separator
    head = "".join(step + separator for step in steps)
    return f"{head}Step {len(steps) + 1}:" if style == "step_markers" else head
