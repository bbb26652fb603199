"""What a reasoning model thought before it answered, in the formats of DeepSeek, Qwen, Kimi, gpt-oss and others."""

from __future__ import annotations

import re

_END = re.compile(r"</(?:think(?:ing)?|thought|reasoning)>|◁/think▷|<\|channel\|>final<\|message\|>")


def without_thoughts(text: str) -> str:
    """The text behind the last end of thoughts; all of it if there is none."""
    ends = [match.end() for match in _END.finditer(text)]
    return text[ends[-1] :] if ends else text
