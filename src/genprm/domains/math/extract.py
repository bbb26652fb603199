"""Read the final answer out of a solution's text."""

from __future__ import annotations

import re

from genprm.domains.base import Extracted

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*")
_HASHES = re.compile(r"####[ \t]*(\S.*)")
_PHRASE = re.compile(r"\b(?:final\s+)?answer(?:\*\*)?\s*(?:is|:|=)(?:\*\*)?\s*:?\s*", re.IGNORECASE)
_LABEL = re.compile(r"^\s*A:[ \t]*(\S.*)$", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)|,\s+(?=[A-Za-z]{2})|\s+(?:because|since)\b")
_MATH = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def extract(text: str) -> Extracted:
    r"""The final answer that a solution states, and how it was found.

    Looked for, in this order: the last complete `\boxed{...}` (braces balanced; escaped braces do not
    count), the last `#### x`, the last "the answer is x" or "answer: x", the last line `A: x`. A number
    that merely stands at the end of the text is not taken: it may be anything. `how` is `boxed`, `hashes`,
    `phrase`, `label` or `none`.
    """
    for how, find in _WAYS.items():
        found = find(text)
        if found:
            return Extracted(found, how)
    return Extracted(None)


def extract_answer(text: str) -> str | None:
    """The final answer that a solution states, or None if it states none. See `extract`."""
    return extract(text).answer


def _last_boxed(text: str) -> str | None:
    """The complete box that opens last; one pass, since a model may repeat an open one a thousand times."""
    groups: list[tuple[int, bool]] = []
    best, inside = -1, None
    index = 0
    while index < len(text):
        char = text[index]
        if char == "\\":
            match = _BOXED.match(text, index)
            index = match.end() if match else index + 2
            if match and index < len(text) and text[index] == "{":
                groups.append((index, True))
                index += 1
            elif match and index < len(text) and text[index].isalnum() and index > best:
                best, inside = index, text[index]
            continue
        if char == "{":
            groups.append((index, False))
        elif char == "}" and groups:
            start, boxed = groups.pop()
            if boxed and start > best and text[start + 1 : index].strip():
                best, inside = start, text[start + 1 : index].strip()
        index += 1
    return inside


def _last_hashes(text: str) -> str | None:
    found = _HASHES.findall(text)
    return _clean(found[-1]) if found else None


def _last_phrase(text: str) -> str | None:
    # Heads alone are searched for, since one may follow another: "Final Answer: The answer is 5."
    ends = [match.end() for match in _PHRASE.finditer(text)]
    if not ends:
        return None
    line = text[ends[-1] :].split("\n", 1)[0]
    return _clean(_first_sentence(line))


def _last_label(text: str) -> str | None:
    found = _LABEL.findall(text)
    return _clean(_first_sentence(found[-1])) if found else None


def _first_sentence(text: str) -> str:
    """`text` up to the end of its first sentence or clause; a point inside a number does not end one."""
    match = _SENTENCE_END.search(text)
    return text[: match.start()] if match else text


def _clean(text: str) -> str:
    text = text.strip().strip("*").strip().rstrip(".").rstrip()
    for left, right in _MATH:
        inner = text[len(left) : -len(right)] if len(text) > len(left) + len(right) else ""
        if inner and text.startswith(left) and text.endswith(right) and left not in inner:
            return inner.strip()
    return text


_WAYS = {"boxed": _last_boxed, "hashes": _last_hashes, "phrase": _last_phrase, "label": _last_label}
