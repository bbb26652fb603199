"""Read the final answer out of a solution's text."""

from __future__ import annotations

import itertools
import re

from genprm.domains.base import Extracted
from genprm.domains.math.conclusion import concluding_value
from genprm.domains.math.equality import is_prose
from genprm.domains.math.normal import as_number, tidy
from genprm.domains.math.sentence import computed_value, is_list, right_side, stated_value
from genprm.domains.math.written import final_part, tagged

# A final answer stands at the end; texts of megabytes are not searched through.
_TAIL = 100_000
_HEADS = 20
_LONG_LINE = 80
_WORDS = 4

_BRACES = re.compile(r"\\(?P<box>boxed|fbox)\s*|\\.|[{}]", re.DOTALL)
# A box without braces holds a number, or a command with its arguments ("\\boxed\\frac{1}{2}").
_BARE = re.compile(r"-?\d[\d,]*(?:\.\d+)?|\\[a-zA-Z]+(?:\s*\{[^{}]*\}|\s*\d){0,2}|[^{}\s]")
_HASHES = re.compile(r"####[ \t]*(?!#)(\S.*)")
_HEADING = re.compile(
    r"(?:step|part|case|section|option|method|question|problem|example|equation)\b|\d+[.)]\s|.*:\W*$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_PHRASE = re.compile(
    "|".join(
        (
            r"(?:\bans(?:wers?)?|\b(?:correct|right|best)\s+(?:option|choice))(?:\s+to\s+[^.:\n]{1,80}?)?[*_]{0,3}"
            r"\s*(?:\b(?:is|are|equals|(?:should|must|would|will)\s+be)\b|[:=：])[*_]{0,3}[ \t]*[:：]?",
            r"\b(?:respuesta|r[ée]ponse|antwort|resposta|risposta|ответ)(?:\s+fin[a-z]{2,4})?"
            r"\s*(?:\b(?:es|est|ist|lautet|é|è)\b|[:：=—])[*_]{0,3}",
            r"答案\s*(?:应该|应)?\s*[是为]?\s*[：:]?",
            r"(?:答えは|정답은|답은|故选)\s*[：:]?",
            r"^[ \t>*#]*ans(?:\.|wer)[ \t]+(?=[-$\\\d(])",
            r"^[^\w\n]*(?:final[ \t]+)?answer[^\w\n]*$",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)
# "24 is the answer."
_BEHIND = re.compile(
    r"(?P<value>\\\([^\n]{1,200}?\\\)|\$[^$\n]{1,200}\$|(?<![\d,./])\$?-?\d[\d,./]{0,30}(?:\s[a-z]{1,20})?)"
    r"\W{0,4}\s+(?:is|as)\s+(?:the|our|my)\s+(?:(?:final|correct|right)\s+)?answer\b(?!\s+(?:to|for|if))",
    re.IGNORECASE,
)
# Such an announcement overrules a box before it.
_LAST_WORD = re.compile(
    r"^[^\w\n]*answer[^\w\n]*$|\b(?:correct(?:ed)?|actual)\s+(?=answer\b)|\bactually,?\s+(?:the|my)\s+(?=answer\b)",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(r"(?:(?<!\d)-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)-?\.\d+", re.ASCII)
_LABEL = re.compile(r"^[ \t]*A:[ \t]*(\S.*)$", re.MULTILINE)
_SENTENCE_END = re.compile(
    r"[.!?;](?:\s|\*|$)|[。；！]|です|，(?!\s*\d)|\s[-–—]+\s+(?=[a-z]{2})"
    r"|,\s+(?!(?:and|or)\s+[^a-zA-Z]|(?:and|or)\s+[a-zA-Z]\b)(?=[A-Za-z]{2})|\s+(?:because|since)\b"
)
_SPEECH = re.compile(r"(?:that|the|she|he|it|they|there|we|you|i|[A-Z][a-z]+)\s", re.IGNORECASE)
_DISPLAYED = re.compile(r"\\\[(.{1,2000}?)\\\]|\$\$(.{1,2000}?)\$\$", re.DOTALL)
_NOT_A_VALUE = re.compile(r"not\b", re.IGNORECASE)
_MORE_TEXT = re.compile(r"\d+[.)]\s|[-*+>]\s|#|step\b", re.IGNORECASE)
_MATH = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def extract(text: str) -> Extracted:
    r"""The final answer that a solution states, and how it was found.

    Looked for, in this order:

    - `boxed`: the last complete `\boxed{...}` (braces balanced; escaped braces do not count); boxes that one sentence
      lists ("$\boxed{3}$ and $\boxed{5}$") are one answer, `3, 5`; a heading "Answer" below it overrules it, as do "the
      correct answer is" and "actually, the answer is";
    - `hashes`: the last `#### x`, unless it is a heading ("#### Step 2");
    - `phrase`: the last "the answer is x" or "answer: x" (also in Chinese); x may be a display on the next line; else the
      last "x is the answer";
    - `label`: the last line `A: x`;
    - `conclusion`: the value of the sentence that concludes the text ("Therefore, he will be 20 minutes early."). It is
      the one way that interprets prose; count it apart, or forbid it (domain `math-announced`).

    `how` is one of these words, or `none`. What `<answer>` tags enclose is read alone (`tag` if it is the bare answer).
    What a model thought (`<think>...</think>`) is not read. Only the last 100,000 characters are read.
    """
    text = final_part(text[-_TAIL:])
    inside = tagged(text)
    if inside is not None:
        found = _by_ways(inside)
        return found if found.answer else Extracted(_clean(inside) or inside, "tag")
    return _by_ways(text)


def last_number(text: str) -> str | None:
    """The last number that is written in digits, commas between thousands included; None if there is none."""
    found = _NUMBER.findall(final_part(text[-_TAIL:]))
    return found[-1] if found else None


def _by_ways(text: str) -> Extracted:
    for how, find in _WAYS.items():
        found = find(text)
        if found:
            if how == "boxed" and (later := _overruled(text)):
                return Extracted(later, "phrase")
            return Extracted(found, how)
    return Extracted(None)


def _overruled(text: str) -> str | None:
    """The value that a text announces as its last word behind its last box; None if it announces none there."""
    behind = text[_boxes(text)[-1][1] :]
    marks = list(_LAST_WORD.finditer(behind))
    found = _phrase(behind[marks[-1].start() :]) if marks else None
    return found if found and as_number(tidy(found)) is not None else None


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
        if box is not None:
            _add_bare(found, text, box)
        opens = box if box is not None and match.start() == box.end() and match[0] == "{" else None
        box = match if match["box"] and match.end() < len(text) else None
        if match[0] == "{":
            groups.append((match.start(), opens.start() if opens else None))
        elif match[0] == "}" and groups:
            start, box_start = groups.pop()
            if box_start is not None:
                _add(found, box_start, match.end(), text[start + 1 : match.start()])
    if box is not None:
        _add_bare(found, text, box)
    return found


def _add_bare(found: list[tuple[int, int, str]], text: str, box: re.Match[str]) -> None:
    if bare := _BARE.match(text, box.end()):
        _add(found, box.start(), bare.end(), bare[0])


_PLACEHOLDER = re.compile(
    r"(?:\\?\.{3,}|\\[lc]?dots|…|\?|(?:\\text\s*\{)?\s*(?:your|the)?\s*(?:final\s+)?answer(?:\s+here)?\s*\}?)",
    re.IGNORECASE,
)


def _add(found: list[tuple[int, int, str]], start: int, end: int, inside: str) -> None:
    inside = inside.strip()
    if not inside or (end - start < 9 and not inside[0].isalnum()) or _PLACEHOLDER.fullmatch(inside):
        return
    if not found or found[-1][0] < start:
        found.append((start, end, inside))


def _hashes(text: str) -> str | None:
    for match in reversed(list(_HASHES.finditer(text))[-_HEADS:]):
        found = _clean(match[1])
        if not found or _PHRASE.search(match[1]) or _HEADING.match(found):
            continue
        if not _WORD.search(found) or as_number(tidy(found)) is not None:
            return found
        if not text[match.end() :].strip():  # words: an answer at the end, a heading elsewhere
            return right_side(found)
    return None


def _phrase(text: str) -> str | None:
    # Heads alone are searched for, since one may follow another: "Final Answer: The answer is 5."
    heads = [match.end() for match in _PHRASE.finditer(text)]
    for end in reversed(heads[-_HEADS:]):
        if found := _announced(text[end:]):
            # An announced sentence ("Answer: She got 7 dollars in change") states the value that was computed.
            spoken = len(found.split()) >= _WORDS and is_prose(tidy(found))
            said = spoken and (
                computed_value(found, text[:end]) or (_SPEECH.match(found) and stated_value(found))
            )
            return said or found
    behind = list(_BEHIND.finditer(text))
    return _clean(behind[-1]["value"].rstrip(".,")) if behind else None


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
