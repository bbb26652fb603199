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

FENCE_OPEN = "```python\n"
FENCE_STOP = "\n```\n"
MAX_OUTPUT_CHARS = 2000

_ERROR = "Code execute Error: "
_TIMEOUT = "Code execute time out: "

_PYTHON = re.compile(r"```(?:python3?|py)[ \t]*\n", re.IGNORECASE)
_CLOSE = re.compile(r"\n[ \t]*```[ \t]*(?:\n|\Z)")
_OUTPUT = re.compile(r"\[Code Output\][ \t]*\n+```[ \t]*\n(.*?)\n?```[ \t]*(?:\n|\Z)", re.DOTALL)
_EVENT = re.compile(
    r"(?P<code>```(?:python3?|py)[ \t]*\n)|(?P<result>\[Code Output\][ \t]*\n+```[ \t]*\n)"
    r"|(?P<end></verify>|<output>|<analyze>)",
    re.IGNORECASE,
)
_SECTION_EVENT = re.compile(r"```(?:python3?|py)[ \t]*\n|\[Code Output\]|</output>", re.IGNORECASE)
_ANALYSIS_END = re.compile(r"</analyze>|<verify>|<output>|</verify>|</output>", re.IGNORECASE)
_WORD = re.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{\s*)?(Yes|No)(?![A-Za-z])", re.IGNORECASE)

_TAGS = re.compile(r"<(/?\s*(?:analyze|verify|output|think|paragraph_\d+)\s*)>", re.IGNORECASE)
_SPECIAL = re.compile(
    r"<([|｜][^<>\n]{0,64}[|｜]|/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn))>", re.IGNORECASE
)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Layout(Protocol):
    """The openings that a prompt profile forces; `genprm.prompts.VerifierProfile` is one."""

    @property
    def analyze_open(self) -> str:
        """`<analyze>`, a line break and a lead; slot `{t}` is the paragraph, from 1."""
        ...

    @property
    def verify_open(self) -> str:
        """`<verify>`, a line break, a lead and the opened python fence."""
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


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A closed python fence: `text[start:end]` is the whole of it, `code` the inside."""

    code: str
    start: int
    end: int


def find_code(text: str, start: int = 0) -> CodeBlock | None:
    """The first closed python fence whose opening stands at or after `start`."""
    opening = _PYTHON.search(text, start)
    if opening is None:
        return None
    # The opening's own line break may serve the closing fence too: an empty block.
    closing = _CLOSE.search(text, opening.end() - 1)
    if closing is None:
        return None
    return CodeBlock(
        text[opening.end() : max(opening.end(), closing.start())], opening.start(), closing.end()
    )


def find_judgement(text: str, start: int = 0) -> Judgement | None:
    """The boxed word after the last `<output>` at or after `start`; None where there is none."""
    tag = text.lower().rfind("<output>", start)
    match = _WORD.search(text, tag) if tag >= 0 else None
    if match is None:
        return None
    return Judgement(match[1].lower() == "yes", match.start(1), match.end(1))


def cut_analysis(text: str) -> str:
    """What of a generated analysis comes before its closing tag, or before a block that follows."""
    match = _ANALYSIS_END.search(text)
    return text[: match.start()] if match else text


def parse_turn(text: str) -> Turn:
    """Read the turn about one step."""
    analysis = None
    position = _find(text, "<analyze>")
    if position >= 0:
        inside = text[position + len("<analyze>") :]
        analysis = cut_analysis(inside).strip()
    verify = None
    after = 0
    position = _find(text, "<verify>")
    if position >= 0:
        verify, after = _segments(text, position + len("<verify>"))
    found = find_judgement(text, after)
    return Turn(analysis, verify, found.value if found else None)


def _find(text: str, tag: str) -> int:
    return text.lower().find(tag)


def _segments(text: str, position: int) -> tuple[tuple[Segment, ...], int]:
    """The pieces of a `<verify>` block whose inside starts at `position`, and where the block ends."""
    pieces: list[Segment] = []
    prose_from = position
    while True:
        event = _EVENT.search(text, position)
        end = event.start() if event else len(text)
        found: CodeBlock | re.Match[str] | None = None
        if event is not None and event.lastgroup == "code":
            found = find_code(text, end)
        elif event is not None and event.lastgroup == "result":
            found = _OUTPUT.match(text, end)
        if event is not None and event.lastgroup != "end" and found is None:
            position = event.end()  # a fence that never closes holds no code that could have run
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
    if _CLOSE.search("\n" + segment.text + "\n"):
        raise DataError("code contains a line that would close its fence")
    return f"{FENCE_OPEN}{segment.text}{FENCE_STOP}"


def output_block(output: str) -> str:
    """The block that shows what code printed. `output` comes from `format_output`."""
    return f"[Code Output]\n\n```\n{output}{FENCE_STOP}"


def output_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of all `[Code Output]` blocks: what the interpreter wrote (method, part 4)."""
    return [match.span() for match in _OUTPUT.finditer(text)]


def render_turn(
    step: StepRationale | Turn, layout: Layout, *, index: int, components: Components = "cot+code+execution"
) -> str:
    """Write a turn as a verifier with this layout and these components is to write it.

    Args:
        index: the step, from 0; the layout's lead may name the paragraph.
        components: `direct` keeps the judgement alone; `cot` drops `<verify>`; `cot+code` drops the
            executed outputs together with the prose that reacts to them.

    The layout's leads are put in where they are missing; prose before the first code is dropped,
    because the verifier is forced to open its fence at once. A check without code is dropped.
    """
    turn = parse_turn(step.text) if isinstance(step, StepRationale) else step
    if components == "direct":
        return build_turn(Turn(judgement=turn.judgement))
    lead = layout.analyze_open.removeprefix("<analyze>\n").replace("{t}", str(index + 1))
    analysis = turn.analysis or ""
    if not analysis.startswith(lead.strip()):
        analysis = lead + analysis
    verify = None
    if components != "cot":
        verify = _checked(turn.verify or (), layout, executed=components == "cot+code+execution")
    return build_turn(Turn(analysis, verify, turn.judgement))


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
        kept.append(segment)
    return tuple(kept)


def parse_step(text: str, executed: Sequence[CodeRound] | None = None) -> StepRationale:
    """Read a turn as a record.

    Args:
        executed: the rounds that were really run for this text, in order; outputs that match none of
            them were written by the model, and their rounds say `not_run`. None where that is unknown:
            then statuses are read from the outputs' wording.
    """
    return _parse_step(text, None if executed is None else list(executed))


def _parse_step(text: str, waiting: list[CodeRound] | None) -> StepRationale:
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
    if output.startswith(_ERROR):
        status = CodeStatus.ERROR
    elif output.startswith(_TIMEOUT):
        status = CodeStatus.TIMEOUT
    return CodeRound(code=code, output=output, status=status)


def format_output(
    status: CodeStatus,
    stdout: str,
    *,
    error_type: str | None = None,
    error_message: str | None = None,
    seconds: float = 5.0,
    max_chars: int = MAX_OUTPUT_CHARS,
) -> str:
    """The text shown to the model for an execution, in the released checkpoints' wording.

    Args:
        seconds: the time limit, named in the text of a time-out.
        max_chars: longer output is cut in its middle, with a visible mark.
    """
    if status is CodeStatus.ERROR:
        text = f"{_ERROR}{error_type or 'Exception'}: {error_message or ''}".rstrip()
    elif status is CodeStatus.TIMEOUT:
        text = f"{_TIMEOUT}stopped after {seconds:g} seconds"
    elif status is CodeStatus.KILLED:
        text = f"{_ERROR}MemoryError: stopped at a resource limit"
    elif status is CodeStatus.DIED:
        text = f"{_ERROR}SystemExit: the interpreter ended"
    elif status is CodeStatus.NOT_RUN:
        text = f"{_ERROR}RuntimeError: the code was not run"
    else:
        text = stdout.strip()
        if status is CodeStatus.OUTPUT_LIMIT:
            text += "\n[output truncated: the limit was reached]"
    return truncate(neutralise(text), max_chars)


def neutralise(output: str) -> str:
    """Make output harmless: nothing in it can close its block, forge a verdict or end the turn.

    Fences, tags, `[Code Output]`, `\\boxed` and special tokens of chat models are rewritten into
    look-alikes; control characters and colour codes are removed. Idempotent.
    """
    output = _CONTROL.sub("", output.replace("\r\n", "\n").replace("\r", "\n"))
    output = output.replace("```", "'''").replace("\\boxed", "\\ boxed")
    output = re.sub(r"\[(\s*Code\s+Output\s*)\]", r"(\1)", output, flags=re.IGNORECASE)
    output = _SPECIAL.sub(r"‹\1›", _TAGS.sub(r"‹\1›", output))
    return output.strip()


def truncate(output: str, max_chars: int = MAX_OUTPUT_CHARS) -> str:
    """Cut the middle out of a long output, leaving a mark that tells how much is missing."""
    if len(output) <= max_chars:
        return output
    head, tail = max_chars * 3 // 4, max_chars // 4
    cut = len(output) - head - tail
    return f"{output[:head]}\n[... {cut} characters of output cut ...]\n{output[len(output) - tail :]}"


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
        steps.append(_parse_step(section, waiting))
        if steps[-1].judgement is False:
            break
    found = re.findall(r"\\boxed\s*\{\s*(-?\s*\d+)\s*\}", tail)
    if not found:
        return TeacherReview(tuple(steps), None, "no final index")
    index = int(re.sub(r"\s", "", found[-1]))
    reason = _index_fault(index, [step.judgement for step in steps], n_steps)
    if reason:
        return TeacherReview(tuple(steps), None, reason)
    return TeacherReview(tuple(steps), -1 if index == -1 else index - 1)


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
            else _OUTPUT.match(text, match.start())
        )
        if block is None:
            position = match.end()
        else:
            position = block.end if isinstance(block, CodeBlock) else block.end()
