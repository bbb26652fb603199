"""Questions and responses inside of what trainers send: chat lists, and prompts that a chat template has rendered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# How a user's turn begins and ends, and how the assistant's begins, in common chat templates.
_TEMPLATES: tuple[tuple[str, str, str], ...] = (
    ("<|im_start|>user\n", "<|im_end|>", "<|im_start|>assistant\n"),
    (
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    ("<start_of_turn>user\n", "<end_of_turn>", "<start_of_turn>model\n"),
    ("<|user|>\n", "<|end|>", "<|assistant|>\n"),
    ("<｜User｜>", "<｜Assistant｜>", "<｜Assistant｜>"),
    ("[INST]", "[/INST]", "[/INST]"),
)
_SPECIAL = (
    r"(?:<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>)"
)
_FIRST = re.compile(rf"\s*{_SPECIAL}\s*")
_LAST = re.compile(rf"{_SPECIAL}\Z")
_LONGEST = 44
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def without_halves(body: bytes) -> bytes:
    """JSON whose escaped halves of surrogate pairs became U+FFFD, as they do in engines' completions.

    Tokens that end within a character leave such halves in what some trainers send, and JSON's readers refuse the whole.
    """
    if not _HALF.search(body):
        return body
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)


def question_of(prompt: str | Sequence[Any]) -> str:
    """The problem in a prompt: the last user turn of a chat, a list or rendered; any other text as it is."""
    if not isinstance(prompt, str):
        return last_turn(prompt, "user")
    for opening, closing, _ in _TEMPLATES:
        start = prompt.rfind(opening)
        if start >= 0:
            start += len(opening)
            end = prompt.find(closing, start)
            return prompt[start : end if end >= 0 else len(prompt)].strip()
    return plain(prompt)


def response_of(query: str, prompt: str = "") -> str | None:
    """What follows the prompt in a text of both, without the special tokens around it; None if it is not found."""
    start = query.find(prompt) if prompt else -1
    if start >= 0:
        return plain(query[start + len(prompt) :])
    for _, _, opening in _TEMPLATES:
        start = query.rfind(opening)
        if start >= 0:
            return plain(query[start + len(opening) :])
    return None


def plain(text: str) -> str:
    """A text without the special tokens at its ends, and without the white space around these."""
    start, end = 0, len(text)
    while found := _FIRST.match(text, start):
        start = found.end()
    while True:
        last = _before_white(text, start, end)
        found = _LAST.search(text, max(start, last - _LONGEST), last)
        if found is None:
            return text[start:end]
        end = _before_white(text, start, found.start())


def _before_white(text: str, start: int, end: int) -> int:
    """Where the white space before a place begins. Looking at characters one by one, no text makes this slow."""
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def last_turn(messages: Sequence[Any], role: str) -> str:
    """The text of a chat's last turn of a role; empty if there is none."""
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == role:
            return content_text(message.get("content"))
    return ""


def content_text(content: Any) -> str:
    """A message's content: a text, or a list of parts whose texts are joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "".join(part for part in parts if isinstance(part, str))
