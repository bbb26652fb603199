"""Reading a teacher's turn about a whole solution (method, part 3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from genprm.records import NO_ERROR, CodeRound, StepRationale
from genprm.text.transcript.turns import OUTPUT, CodeBlock, find_code, parse_step_with

_SECTION_EVENT = re.compile(r"```(?:python3?|py)[ \t]*\n|\[Code Output\]|</output>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TeacherReview:
    """A teacher's parsed turn about a whole solution.

    Attributes:
        steps: the paragraphs judged, up to the first wrong one.
        first_error: 0-based index, NO_ERROR, or None where there is no usable index.
        reason: why there is none.
    """

    steps: tuple[StepRationale, ...]
    first_error: int | None
    reason: str | None = None


def parse_review(text: str, n_steps: int, executed: Sequence[CodeRound] | None = None) -> TeacherReview:
    """Read a teacher's turn: one section per paragraph, then the index of the first wrong one.

    The index is usable where it lies in 1..n_steps (or is -1), every paragraph up to it was judged, and
    the judgements agree with it. `executed` as for `parse_step`.
    """
    sections, tail = _sections(text)
    waiting = None if executed is None else list(executed)
    steps: list[StepRationale] = []
    for section in sections[:n_steps]:
        steps.append(parse_step_with(section, waiting))
        if steps[-1].judgement is False:
            break
    found = re.findall(r"\\boxed\s*\{\s*(-?\s*\d+)\s*\}", tail)
    if not found:
        return TeacherReview(tuple(steps), None, "no final index")
    index = int(re.sub(r"\s", "", found[-1]))
    reason = _index_fault(index, [step.judgement for step in steps], n_steps)
    if reason:
        return TeacherReview(tuple(steps), None, reason)
    return TeacherReview(tuple(steps), NO_ERROR if index == -1 else index - 1)


def _index_fault(index: int, judgements: Sequence[bool | None], n_steps: int) -> str | None:
    if index != -1 and not 1 <= index <= n_steps:
        return "index out of range"
    needed = n_steps if index == -1 else index
    if len(judgements) < needed and False not in judgements:
        return "paragraphs missing"
    if None in judgements[:needed]:
        return "judgement missing"
    first_no = judgements.index(False) + 1 if False in judgements else -1
    return "index conflicts with judgements" if first_no != index else None


def _sections(text: str) -> tuple[list[str], str]:
    """The paragraphs' sections and what follows the last; a section ends with `</output>`."""
    sections: list[str] = []
    position = 0
    while True:
        end = _section_end(text, position)
        if end is None:
            return sections, text[position:]
        sections.append(text[position:end].strip())
        position = end


def _section_end(text: str, position: int) -> int | None:
    """Where the section that starts at `position` ends; code and output blocks are skipped over."""
    while True:
        match = _SECTION_EVENT.search(text, position)
        if match is None:
            return None
        if match[0].lower() == "</output>":
            return match.end()
        block = (
            find_code(text, match.start())
            if match[0].startswith("```")
            else OUTPUT.match(text, match.start())
        )
        position = block.end if isinstance(block, CodeBlock) else (block or match).end()
