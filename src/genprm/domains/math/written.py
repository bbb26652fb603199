r"""What of a text is its final part: the answer to the reader, without thoughts, end tokens and broken escapes."""

from __future__ import annotations

import re

from genprm.text.thoughts import without_thoughts

_END_TOKENS = re.compile(r"(?:<\|[\w ]{1,30}\|>|</s>|<eos>|<end_of_turn>|<\uff5c[^<>\n]{1,40}\uff5c>)\Z")
_ANSWER_TAGS = re.compile(r"<answer>((?:(?!</?answer>).){1,2000})</answer>", re.DOTALL | re.IGNORECASE)
# The mark behind each step in the format of Math-Shepherd.
_STEP_TAGS = re.compile(r"(?<![ \t])[ \t]+ки[ \t]*$", re.MULTILINE)
# The calculator notes of GSM8K ("<<6*6=36>>36").
_NOTES = re.compile(r"<<[^<>\n]{0,200}>>")
# "\boxed" and "\frac" in a string whose backslashes were taken for escapes.
_BROKEN = {"\x08oxed": r"\boxed", "\x0crac": r"\frac"}


def final_part(text: str) -> str:
    """The text behind the thoughts that it opens with, without end tokens, calculator notes and step tags."""
    text = _STEP_TAGS.sub("", _NOTES.sub("", without_thoughts(text)))
    while True:
        text = text.rstrip()
        match = _END_TOKENS.search(text, max(0, len(text) - 60))
        if match is None:
            break
        text = text[: match.start()]
    for broken, meant in _BROKEN.items():
        text = text.replace(broken, meant)
    return text


def tagged(text: str) -> str | None:
    """What the last `<answer>` tags enclose; None without such tags."""
    found = _ANSWER_TAGS.findall(text)
    return found[-1].strip() or None if found else None
