"""Executed output as the model is shown it: worded as the released checkpoints expect, and harmless."""

from __future__ import annotations

import re

from genprm.records import CodeStatus

FENCE_STOP = "\n```\n"
MAX_OUTPUT_CHARS = 2000
ERROR_PREFIX = "Code execute Error: "
TIMEOUT_PREFIX = "Code execute time out: "
NOTHING_PRINTED = "(nothing was printed)"
"""Shown for code that ran and printed nothing, if a prompt profile wants it said. The value of a last expression is not
printed, as in a script; a model that expects it learns so here."""

_TAGS = re.compile(r"<(/?\s*(?:analyze|verify|output|think|paragraph_\d+)\s*)>", re.IGNORECASE)
_SPECIAL = re.compile(
    r"<([|｜][^<>\n]{0,64}[|｜]|/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn))>", re.IGNORECASE
)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def format_output(
    status: CodeStatus,
    stdout: str,
    *,
    error_type: str | None = None,
    error_message: str | None = None,
    note_empty: bool = False,
    max_chars: int = MAX_OUTPUT_CHARS,
) -> str:
    """The text shown to the model for an execution, in the released checkpoints' wording.

    Standard output is stripped; an error's text is not, so that an `AssertionError` without a message keeps the blank
    after its colon.

    Args:
        note_empty: say that nothing was printed; the released checkpoints were shown an empty block.
        max_chars: longer output is cut in its middle, with a visible mark.
    """
    if status is CodeStatus.ERROR:
        text = f"{ERROR_PREFIX}{error_type or 'Exception'}: {error_message or ''}"
        return truncate(_harmless(text).rstrip("\n"), max_chars)
    if status is CodeStatus.TIMEOUT:
        text = f"{TIMEOUT_PREFIX}Code execution timed out"
    elif status is CodeStatus.KILLED:
        text = f"{ERROR_PREFIX}MemoryError: stopped at a resource limit"
    elif status is CodeStatus.DIED:
        text = f"{ERROR_PREFIX}SystemExit: the interpreter ended"
    elif status is CodeStatus.NOT_RUN:
        text = f"{ERROR_PREFIX}RuntimeError: the code was not run"
    else:
        text = stdout.strip()
        if status is CodeStatus.OUTPUT_LIMIT:
            text += "\n[output truncated: the limit was reached]"
        elif note_empty:
            text = text or NOTHING_PRINTED
    return truncate(neutralise(text), max_chars)


def neutralise(output: str) -> str:
    """Make output harmless, and strip it: nothing in it can close its block, forge a verdict or end the turn.

    Fences, tags, `[Code Output]`, `\\boxed` and special tokens of chat models are rewritten into
    look-alikes; control characters and colour codes are removed. Idempotent.
    """
    return _harmless(output).strip()


def _harmless(output: str) -> str:
    output = _CONTROL.sub("", output.replace("\r\n", "\n").replace("\r", "\n"))
    output = output.replace("```", "'''").replace("\\boxed", "\\ boxed")
    output = re.sub(r"\[(\s*Code\s+Output\s*)\]", r"(\1)", output, flags=re.IGNORECASE)
    return _SPECIAL.sub(r"‹\1›", _TAGS.sub(r"‹\1›", output))


def truncate(output: str, max_chars: int = MAX_OUTPUT_CHARS) -> str:
    """Cut the middle out of a long output, leaving a mark that tells how much is missing."""
    if len(output) <= max_chars:
        return output
    head, tail = max_chars * 3 // 4, max_chars // 4
    cut = len(output) - head - tail
    return f"{output[:head]}\n[... {cut} characters of output cut ...]\n{output[len(output) - tail :]}"


def output_block(output: str) -> str:
    """The block that shows what code printed. `output` comes from `format_output`."""
    return f"[Code Output]\n\n```\n{output}{FENCE_STOP}"
