"""Read the final answer out of a solution's text."""

from __future__ import annotations

import itertools
import re

from genprm.domains.base import Extracted
from genprm.domains.math.conclusion import computed_value, concluding_value, is_list, right_side

# A final answer stands at the end; texts of megabytes are not searched through.
_TAIL = 100_000
_HEADS = 20
_LONG_LINE = 80
_WORDS = 4

_BRACES = re.compile(r"\\(?P<box>boxed|fbox)\s*|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*(\S.*)")
_PHRASE = re.compile(
    r"\banswer(?:\s+to\s+[^.:\n]{1,80}?)?[*_]{0,3}\s*(?:\bis\b|:|=)[*_]{0,3}[ \t]*:?"
    r"|^[^\w\n]*(?:final[ \t]+)?answer[^\w\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_LABEL = re.compile(r"^[ \t]*A:[ \t]*(\S.*)$", re.MULTILINE)
_SENTENCE_END = re.compile(
    r"[.!?;](?:\s|\*|$)|,\s+(?!(?:and|or)\s+[^a-zA-Z]|(?:and|or)\s+[a-zA-Z]\b)(?=[A-Za-z]{2})|\s+(?:because|since)\b"
)
_DISPLAYED = re.compile(r"\\\[(.{1,2000}?)\\\]|\$\$(.{1,2000}?)\$\$", re.DOTALL)
_NOT_A_VALUE = re.compile(r"not\b", re.IGNORECASE)
_MORE_TEXT = re.compile(r"\d+[.)]\s|[-*+>]\s|#|step\b", re.IGNORECASE)
_MATH = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def extract(text: str) -> Extracted:
    r"""The final answer that a solution states, and how it was found.

    Looked for, in this order:

    - `boxed`: the last complete `\boxed{...}` (braces balanced; escaped braces do not count); boxes that one sentence
      lists ("$\boxed{3}$ and $\boxed{5}$") are one answer, `3, 5`;
    - `hashes`: the last `#### x`;
    - `phrase`: the last "the answer is x" or "answer: x"; x may be a display on the next line;
    - `label`: the last line `A: x`;
    - `conclusion`: the value of the sentence that concludes the text ("Therefore, he will be 20 minutes early."). It is
      the one way that interprets prose; count it apart, or forbid it (domain `math-announced`).

    `how` is one of these words, or `none`. Only the last 100,000 characters are read.
    """
    text = text[-_TAIL:]
    for how, find in _WAYS.items():
        found = find(text)
        if found:
            return Extracted(found, how)
    return Extracted(None)


def extract_answer(text: str) -> str | None:
    """The final answer that a solution states, or None if it states none. See `extract`."""
    return extract(text).answer


def _boxed(text: str) -> str | None:
    """The last box, with the boxes before it that the same sentence lists."""
    boxes = _boxes(text)
    if not boxes:
        return None
    listed = [boxes[-1][2]]
    for (_, end, inside), (start, _, _) in reversed(list(itertools.pairwise(boxes))):
        if not is_list(text[end:start]):
            break
        listed.append(inside)
    listed.reverse()
    return ", ".join(dict.fromkeys(listed))


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """The complete boxes that hold no other box: start, end, inside. One pass, whatever braces stay open."""
    groups: list[tuple[int, int | None]] = []
    found: list[tuple[int, int, str]] = []
    box: re.Match[str] | None = None
    for match in _BRACES.finditer(text):
        if box is not None and text[box.end()] not in "{}":
            _add(found, box.start(), box.end() + 1, text[box.end()])
        opens = box if box is not None and match.start() == box.end() and match[0] == "{" else None
        box = match if match["box"] and match.end() < len(text) else None
        if match[0] == "{":
            groups.append((match.start(), opens.start() if opens else None))
        elif match[0] == "}" and groups:
            start, box_start = groups.pop()
            if box_start is not None:
                _add(found, box_start, match.end(), text[start + 1 : match.start()])
    if box is not None and text[box.end()] not in "{}":
        _add(found, box.start(), box.end() + 1, text[box.end()])
    return found


def _add(found: list[tuple[int, int, str]], start: int, end: int, inside: str) -> None:
    inside = inside.strip()
    if not inside or (end - start < 9 and not inside[0].isalnum()):
        return
    if not found or found[-1][0] < start:
        found.append((start, end, inside))


def _hashes(text: str) -> str | None:
    found = _HASHES.findall(text)
    return _clean(found[-1]) if found else None


def _phrase(text: str) -> str | None:
    # Heads alone are searched for, since one may follow another: "Final Answer: The answer is 5."
    heads = [match.end() for match in _PHRASE.finditer(text)]
    for end in reversed(heads[-_HEADS:]):
        if found := _announced(text[end:]):
            # An announced sentence ("Answer: She got 7 dollars in change") states the value that was computed.
            spoken = len(found.split()) >= _WORDS
            return (computed_value(found, text[:end]) if spoken else None) or found
    return None


def _announced(rest: str) -> str | None:
    """The value that follows an announcement; None if what follows is more of the solution."""
    gap = re.match(r"[\s*_:]*", rest)
    start = gap.end() if gap else 0
    below, rest = "\n" in rest[:start], rest[start:]
    if display := _DISPLAYED.match(rest):
        return right_side(display[1] or display[2]) or None
    line = rest.split("\n", 1)[0]
    if _NOT_A_VALUE.match(line) or (below and (len(line) > _LONG_LINE or _MORE_TEXT.match(line))):
        return None
    return _clean(_first_sentence(line)) or None


def _label(text: str) -> str | None:
    found = _LABEL.findall(text)
    return _clean(_first_sentence(found[-1])) if found else None


def _first_sentence(text: str) -> str:
    """`text` up to the end of its first sentence or clause; a point inside a number does not end one."""
    match = _SENTENCE_END.search(text)
    return text[: match.start()] if match else text


def _clean(text: str) -> str:
    text = text.strip().strip("*_").strip().rstrip(".").rstrip()
    for left, right in _MATH:
        inner = text[len(left) : -len(right)] if len(text) > len(left) + len(right) else ""
        if inner and text.startswith(left) and text.endswith(right) and left not in inner:
            return inner.strip()
    return text


_WAYS = {
    "boxed": _boxed,
    "hashes": _hashes,
    "phrase": _phrase,
    "label": _label,
    "conclusion": concluding_value,
}
