"""Reading a teacher's turn about a whole solution (method, part 3).

A section is matched to the paragraph whose number it names, never by counting sections: a teacher that skips,
repeats or merges paragraphs would otherwise move every later judgement to a wrong step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from genprm.records import NO_ERROR, CodeRound, StepRationale
from genprm.text.transcript.fences import PYTHON_FENCE, CodeBlock, CodeFinder
from genprm.text.transcript.turns import OUTPUT, parse_step_with

Thinking = Literal["none", "strip", "review"]
THINK_END = "</think>"

_SECTION_EVENT = re.compile(
    rf"(?P<code>{PYTHON_FENCE})|\[Code Output\]|</output>", re.IGNORECASE | re.MULTILINE
)
_BODY = re.compile(r"<analyze>|<verify>|<output>", re.IGNORECASE)
_NUMBERS = r"(\d+(?:[ \t]*(?:[-\u2013\u2014,&/]|and|to|through)[ \t]*(?:paragraph[ \t_]*)?\d+)*)"
_HEADING = re.compile(rf"^[ \t>#*_\[(<]*paragraphs?[ \t_#*]*{_NUMBERS}", re.IGNORECASE | re.MULTILINE)
# The lead that the released checkpoints' format puts at the start of an analysis.
_LEAD = re.compile(
    rf"<analyze>\s*(?:let['\u2019]?s|let us) analy[sz]e (?:the )?paragraphs?[ _]*{_NUMBERS}", re.IGNORECASE
)
_INDEX = re.compile(r"\\boxed\s*\{\s*(-?\s*\d+)\s*\}")


@dataclass(frozen=True, slots=True)
class TeacherReview:
    """A teacher's parsed turn about a whole solution.

    Attributes:
        steps: the paragraphs judged, in their order, up to the first wrong or missing one.
        first_error: 0-based index, NO_ERROR, or None where there is no usable index.
        reason: why there is none.
    """

    steps: tuple[StepRationale, ...]
    first_error: int | None
    reason: str | None = None


def parse_review(
    text: str, n_steps: int, executed: Sequence[CodeRound] | None = None, *, thinking: Thinking = "none"
) -> TeacherReview:
    """Read a teacher's turn: a section for each paragraph, then the index of the first wrong one.

    A section names its paragraph in a heading such as `### Paragraph 2`, or in the lead of its analysis. The index is
    usable if it lies in 1..n_steps (or is -1), no number is repeated, merged with another, missing or outside the
    solution, and the judgements agree with it. `executed` as for `parse_step`.

    Args:
        thinking: see `TeacherProfile`. Unless the thinking is the review, what comes before the first `</think>` is
            left out, since a model may quote tags and verdicts in it.
    """
    reviewed, after = _review_text(text, thinking)
    sections, tail = _sections(reviewed)
    waiting = None if executed is None else list(executed)
    named: dict[int, StepRationale] = {}
    fault: str | None = None
    for head, body in sections:
        step = parse_step_with(body, waiting)
        numbers = _numbers(head, body)
        fault = fault or _number_fault(numbers, named, n_steps)
        for number in numbers:
            named.setdefault(number, step)
    steps = _until_first_error(named, n_steps)
    found = _INDEX.findall(tail + after)
    if not found:
        return TeacherReview(steps, None, "no final index")
    index = int(re.sub(r"\s", "", found[-1]))
    reason = _index_fault(index, steps, n_steps, fault)
    if reason:
        return TeacherReview(steps, None, reason)
    return TeacherReview(steps, NO_ERROR if index == -1 else index - 1)


def _review_text(text: str, thinking: Thinking) -> tuple[str, str]:
    """The part of a turn in which sections are looked for, and what follows it."""
    before, found, after = text.partition(THINK_END)
    if thinking == "review":
        return before, after
    return (after if found else text), ""


def _numbers(head: str, body: str) -> list[int]:
    """The numbers of the paragraphs that a section names: one, if all is well."""
    headings = list(_HEADING.finditer(head))
    named = headings[-1] if headings else _LEAD.match(body)
    return [int(number) for number in re.findall(r"\d+", named[1])] if named else []


def _number_fault(numbers: Sequence[int], named: dict[int, StepRationale], n_steps: int) -> str | None:
    if not numbers:
        return "a section names no paragraph"
    if len(numbers) > 1:
        return f"paragraphs {', '.join(map(str, numbers))} merged"
    if not 1 <= numbers[0] <= n_steps:
        return f"paragraph {numbers[0]} is not in the solution"
    return f"paragraph {numbers[0]} repeated" if numbers[0] in named else None


def _until_first_error(named: dict[int, StepRationale], n_steps: int) -> tuple[StepRationale, ...]:
    steps: list[StepRationale] = []
    for number in range(1, n_steps + 1):
        if number not in named:
            break
        steps.append(named[number])
        if steps[-1].judgement is False:
            break
    return tuple(steps)


def _index_fault(index: int, steps: Sequence[StepRationale], n_steps: int, fault: str | None) -> str | None:
    if index != -1 and not 1 <= index <= n_steps:
        return "index out of range"
    if fault is not None:
        return fault
    judgements = [step.judgement for step in steps]
    needed = n_steps if index == -1 else index
    if len(judgements) < needed and False not in judgements:
        return f"paragraph {len(judgements) + 1} missing"
    if None in judgements[:needed]:
        return "judgement missing"
    first_no = judgements.index(False) + 1 if False in judgements else -1
    return "index conflicts with judgements" if first_no != index else None


def _sections(text: str) -> tuple[list[tuple[str, str]], str]:
    """The sections, each as what stands before its first tag and the rest, and what follows the last one.

    A section ends with `</output>`.
    """
    sections: list[tuple[str, str]] = []
    finder = CodeFinder(text)
    position = 0
    while True:
        end = _section_end(text, position, finder)
        if end is None:
            return sections, text[position:]
        section = text[position:end]
        first = _BODY.search(section)
        start = first.start() if first else len(section)
        sections.append((section[:start], section[start:].strip()))
        position = end


def _section_end(text: str, position: int, finder: CodeFinder) -> int | None:
    """Where the section that starts at `position` ends; code and output blocks are skipped over."""
    while True:
        event = _SECTION_EVENT.search(text, position)
        if event is None:
            return None
        if event[0].lower() == "</output>":
            return event.end()
        if event.lastgroup == "code":
            found = finder.block(event)
            position = found.end if isinstance(found, CodeBlock) else found
        else:
            output = OUTPUT.match(text, event.start())
            position = (output or event).end()
