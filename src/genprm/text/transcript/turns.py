"""Reading and writing what a verifier or a teacher says about steps.

One turn about one step looks like this (method, parts 3 and 5); every block but the last is optional:

    <analyze>
    ...
    </analyze>
    <verify>
    ```python
    code
    ```
    [Code Output]

    ```
    what it printed
    ```
    prose, and perhaps more code
    </verify>
    <output>
    **Judgement**: $\\boxed{Yes}$
    </output>

Parsing never fails: what a model left out is None or empty. Tags inside code and inside executed output
are not read as tags; `neutralise` makes sure that output cannot end the block it is shown in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from genprm.config.models import Components
from genprm.errors import DataError
from genprm.records import CodeRound, CodeStatus, StepRationale
from genprm.text.transcript.fences import (
    FENCE_OPEN,
    PYTHON_FENCE,
    CodeBlock,
    CodeFinder,
    closing_fence,
)
from genprm.text.transcript.output import (
    ERROR_PREFIX,
    FENCE_STOP,
    NOTHING_PRINTED,
    TIMEOUT_PREFIX,
    output_block,
)

JUDGEMENTS = ("Yes", "No")
"""The words of a judgement."""

OUTPUT = re.compile(r"\[Code Output\][ \t]*\n+```[ \t]*\n(.*?)\n?```[ \t]*(?:\n|\Z)", re.DOTALL)
# The look-ahead says the same as the rest, but rules out most places at a glance.
_EVENT = re.compile(
    rf"(?=[ \t>`~\[<])(?:(?P<code>{PYTHON_FENCE})|(?P<result>\[Code Output\][ \t]*\n+```[ \t]*\n)"
    r"|(?P<end></verify>|<output>|<analyze>))",
    re.IGNORECASE | re.MULTILINE,
)
# Searched for as patterns: a text in lower case may be longer than the text ("İ"), so its places are others.
_ANALYZE_TAG, _VERIFY_TAG, _OUTPUT_TAG = (
    re.compile(f"<{name}>", re.IGNORECASE) for name in ("analyze", "verify", "output")
)
_ANALYSIS_END = re.compile(r"</analyze>|<verify>|<output>|</verify>|</output>", re.IGNORECASE)
_WORD = re.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{\s*)?(Yes|No)(?![A-Za-z])", re.IGNORECASE)


class Layout(Protocol):
    """The openings that a prompt profile forces; `genprm.text.prompts.VerifierProfile` is one."""

    @property
    def analyze_open(self) -> str:
        """`<analyze>`, a line break and a lead; slot `{t}` is the paragraph, from 1."""
        ...

    @property
    def verify_open(self) -> str:
        """`<verify>`, a line break, a lead and the opened python fence."""
        ...

    @property
    def turn_end(self) -> str:
        """What follows `</output>` at the end of a turn: white space or nothing."""
        ...

    @property
    def note_empty_output(self) -> bool:
        """Whether code that printed nothing is answered with words, and not with an empty block."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a `<verify>` block."""

    kind: Literal["prose", "code", "output"]
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A parsed turn.

    Attributes:
        analysis: the inside of `<analyze>`, stripped; None where there is no such block.
        verify: the pieces of `<verify>` in order; None where there is no such block.
        judgement: the boxed word of the last `<output>` block: True for Yes; None where there is none.
    """

    analysis: str | None = None
    verify: tuple[Segment, ...] | None = None
    judgement: bool | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A boxed Yes / No and where its word stands in the text."""

    value: bool
    start: int
    end: int


def find_judgement(text: str, start: int = 0) -> Judgement | None:
    """The boxed word after the last `<output>` at or after `start`; None where there is none."""
    ends = [tag.end() for tag in _OUTPUT_TAG.finditer(text, start)]
    match = _WORD.search(text, ends[-1]) if ends else None
    if match is None:
        return None
    return Judgement(match[1].lower() == "yes", match.start(1), match.end(1))


def count_judgements(text: str) -> int:
    """How many verdicts a turn gives: boxed words outside code and executed output. One is as it should be.

    `find_judgement` reads the one that counts; a turn with several is one whose writer did not decide.
    """
    segments = parse_turn(text).verify or ()
    inside = sum(len(_WORD.findall(one.text)) for one in segments if one.kind != "prose")
    return len(_WORD.findall(text)) - inside


def cut_analysis(text: str) -> str:
    """What of a generated analysis comes before its closing tag, or before a block that follows."""
    match = _ANALYSIS_END.search(text)
    return text[: match.start()] if match else text


def parse_turn(text: str) -> Turn:
    """Read the turn about one step."""
    analysis = None
    if tag := _ANALYZE_TAG.search(text):
        analysis = cut_analysis(text[tag.end() :]).strip()
    verify = None
    after = 0
    if tag := _VERIFY_TAG.search(text):
        verify, after = _segments(text, tag.end())
    found = find_judgement(text, after)
    return Turn(analysis, verify, found.value if found else None)


def _segments(text: str, position: int) -> tuple[tuple[Segment, ...], int]:
    """The pieces of a `<verify>` block whose inside starts at `position`, and where the block ends."""
    pieces: list[Segment] = []
    finder = CodeFinder(text)
    prose_from = position
    while True:
        event = _EVENT.search(text, position)
        end = event.start() if event else len(text)
        found: CodeBlock | re.Match[str] | int | None = None
        if event is not None and event.lastgroup == "code":
            found = finder.block(event)
        elif event is not None and event.lastgroup == "result":
            found = OUTPUT.match(text, end) or event.end()
        if isinstance(found, int):
            position = found  # a fence that never closes holds no code that could have run
            continue
        if prose := text[prose_from:end].strip():
            pieces.append(Segment("prose", prose))
        if found is None:
            return tuple(pieces), end
        if isinstance(found, CodeBlock):
            pieces.append(Segment("code", found.code))
            position = prose_from = found.end
        else:
            pieces.append(Segment("output", found[1]))
            position = prose_from = found.end()


def build_turn(turn: Turn) -> str:
    """Write a turn in its canonical form, without a trailing line break.

    Raises:
        DataError: code or output that would close its own fence.
    """
    parts = []
    if turn.analysis is not None:
        parts.append(f"<analyze>\n{turn.analysis}\n</analyze>\n")
    if turn.verify is not None:
        parts.append(f"<verify>\n{''.join(_segment_text(s) for s in turn.verify)}</verify>\n")
    if turn.judgement is not None:
        word = "Yes" if turn.judgement else "No"
        parts.append(f"<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>")
    return "".join(parts).rstrip("\n")


def _segment_text(segment: Segment) -> str:
    if segment.kind == "prose":
        return f"{segment.text}\n"
    if segment.kind == "output":
        if "```" in segment.text:
            raise DataError(
                "executed output contains a code fence", hint="pass output through format_output first"
            )
        return output_block(segment.text)
    if closing_fence().search("\n" + segment.text + "\n"):
        raise DataError("code contains a line that would close its fence")
    return f"{FENCE_OPEN}{segment.text}{FENCE_STOP}"


def output_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of all `[Code Output]` blocks: what the interpreter wrote (method, part 4)."""
    return [match.span() for match in OUTPUT.finditer(text)]


def render_turn(
    step: StepRationale | Turn, layout: Layout, *, index: int, components: Components = "cot+code+execution"
) -> str:
    """Write a turn as a verifier with this layout and these components is to write it.

    Args:
        index: the step, from 0; the layout's lead may name the paragraph.
        components: `direct` keeps the judgement alone; forms without `cot` drop `<analyze>`, forms without
            `code` drop `<verify>`, and forms without `execution` the executed outputs together with the
            prose that reacts to them.

    The layout's leads are put in where they are missing; prose before the first code is dropped,
    because the verifier is forced to open its fence at once. A check without code is dropped. The layout
    also says how code that printed nothing is answered, and what ends the turn.
    """
    turn = parse_turn(step.text) if isinstance(step, StepRationale) else step
    analysis = verify = None
    if "cot" in components:
        lead = layout.analyze_open.removeprefix("<analyze>\n").replace("{t}", str(index + 1))
        analysis = turn.analysis or ""
        if not analysis.startswith(lead.strip()):
            analysis = lead + analysis
    if "code" in components:
        verify = _checked(turn.verify or (), layout, executed="execution" in components)
    text = build_turn(Turn(analysis, verify, turn.judgement))
    return text if turn.judgement is None else text + layout.turn_end


def _checked(segments: Sequence[Segment], layout: Layout, *, executed: bool) -> tuple[Segment, ...] | None:
    first = next((i for i, s in enumerate(segments) if s.kind == "code"), None)
    if first is None:
        return None
    lead = layout.verify_open.removeprefix("<verify>\n").removesuffix(FENCE_OPEN).strip("\n")
    kept = [Segment("prose", lead)] if lead else []
    reacting = False
    for segment in segments[first:]:
        if not executed and (segment.kind == "output" or (segment.kind == "prose" and reacting)):
            reacting = True
            continue
        reacting = False
        kept.append(_shown(segment, layout))
    return tuple(kept)


def _shown(segment: Segment, layout: Layout) -> Segment:
    """The segment as the layout shows it: code that printed nothing may be answered in another way."""
    if segment.kind != "output" or segment.text not in ("", NOTHING_PRINTED):
        return segment
    return Segment("output", NOTHING_PRINTED if layout.note_empty_output else "")


def parse_step(text: str, executed: Sequence[CodeRound] | None = None) -> StepRationale:
    """Read a turn as a record.

    Args:
        executed: the rounds that were really run for this text, in order; outputs that match none of
            them were written by the model, and their rounds say `not_run`. None where that is unknown:
            then statuses are read from the outputs' wording.
    """
    return parse_step_with(text, None if executed is None else list(executed))


def parse_step_with(text: str, waiting: list[CodeRound] | None) -> StepRationale:
    """`parse_step` on a list of executed rounds from which it takes those that it finds in the text."""
    turn = parse_turn(text)
    rounds: list[CodeRound] = []
    segments = turn.verify or ()
    for i, segment in enumerate(segments):
        if segment.kind == "code":
            following = segments[i + 1] if i + 1 < len(segments) else None
            output = following.text if following is not None and following.kind == "output" else None
            rounds.append(_round(segment.text, output, waiting))
    return StepRationale(
        text=text, analysis=turn.analysis or "", rounds=tuple(rounds), judgement=turn.judgement
    )


def _round(code: str, output: str | None, waiting: list[CodeRound] | None) -> CodeRound:
    """The round of a code segment; takes it, and those before it, off the `waiting` executed ones."""
    for i, run in enumerate(waiting or ()):
        if run.code == code and run.output == output:
            del (waiting or [])[: i + 1]
            return run
    if output is None or waiting is not None:
        return CodeRound(code=code)
    status = CodeStatus.OK
    if output.startswith(ERROR_PREFIX):
        status = CodeStatus.ERROR
    elif output.startswith(TIMEOUT_PREFIX):
        status = CodeStatus.TIMEOUT
    return CodeRound(code=code, output=output, status=status)
