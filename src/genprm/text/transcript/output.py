"""Executed output as the model is shown it: worded as the released checkpoints expect, and harmless."""

from __future__ import annotations

import re

from genprm.records import CodeStatus

FENCE_STOP = "\n```\n"
MAX_OUTPUT_CHARS = 2000
ERROR_PREFIX = "Code execute Error: "
TIMEOUT_PREFIX = "Code execute time out: "

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
    seconds: float = 5.0,
    max_chars: int = MAX_OUTPUT_CHARS,
) -> str:
    """The text shown to the model for an execution, in the released checkpoints' wording.

    Args:
        seconds: the time limit, named in the text of a time-out.
        max_chars: longer output is cut in its middle, with a visible mark.
    """
    if status is CodeStatus.ERROR:
        text = f"{ERROR_PREFIX}{error_type or 'Exception'}: {error_message or ''}".rstrip()
    elif status is CodeStatus.TIMEOUT:
        text = f"{TIMEOUT_PREFIX}stopped after {seconds:g} seconds"
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


def output_block(output: str) -> str:
    """The block that shows what code printed. `output` comes from `format_output`."""
    return f"[Code Output]\n\n```\n{output}{FENCE_STOP}"
