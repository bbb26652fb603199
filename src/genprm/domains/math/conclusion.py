r"""The answer of a solution that announces none: the value of its concluding sentence.

Half of the real solutions to word problems end like "Therefore, he will be 20 minutes early." Which of a sentence's
values is meant is decided in this order: the right side of its last equation; the value that was computed last before
it; the one that is emphasised; the first one after a leading clause ("After 5 days, ...").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from genprm.domains.math.normal import as_number, tidy

_TAIL = 4000
_RESULTS = 2
_REMARK = 400

_OPENING = re.compile(
    r"""[\W_]*(?:(?:and|but|now)\W+)?(?:
        therefore|thus|hence|so|consequently|accordingly|finally|altogether|overall|ultimately|lastly
      | in\s+(?:conclusion|total|summary|all|the\s+end) | as\s+a\s+result | to\s+(?:conclude|summari[sz]e)
      | (?:this|that|which|it)\s+(?:means|implies|gives|leaves|follows|shows)
      | we\s+(?:conclude|get|find|have|obtain) | (?:the\s+)?(?:final\s+)?(?:answer|result|total|conclusion)
    )\b | .*\b(?:therefore|thus|hence|so|consequently),?\s""",
    re.IGNORECASE | re.VERBOSE,
)
_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
# Neither part of a word or an index ("H2O", "x_1", "3D") nor of a time of day or a ratio ("7:30").
_VALUE = re.compile(
    rf"""(?<![\w.^_\\:])(?:(?<![\d)}}\w]\ )[-−]\s?)?(?:\\?[$£€]\s?)?[-−]?
    (?: (?:{_DIGITS}\s*)?\\[dt]?frac\s*\{{\s*\d+\s*\}}\s*\{{\s*\d+\s*\}}
      | \d+\s+\d+\s*/\s*\d+(?![\d/])
      | {_DIGITS}\s*/\s*{_DIGITS}(?![\d/])
      | {_DIGITS}
    )(?:\s?\\?%)?(?![\w]*\d|[A-Z]|:\d)""",
    re.VERBOSE,
)
_NAMED = re.compile(
    r"\b(?:step|day|part|question|problem|case|figure|equation|year|chapter|page|option)\s+\W{0,3}$",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"\*\*(?!\s)([^*\n]{1,200})\*\*")
_INLINE = re.compile(r"\\\((.{1,300}?)\\\)|(?<![\\$\w])\$(?![\s$])([^$]{1,300}?)(?<![\s\\])\$(?!\d)")
_DISPLAY = re.compile(r"\s*(\\\[.{1,2000}?\\\]|\$\$.{1,2000}?\$\$)", re.DOTALL)
_MATH_END = re.compile(r"\\[\])]|\$|\*\*")
_EQUALS = re.compile(r"(?:(?<![<>!\\])=|≈|\\approx(?![a-z]))\s*&?\s*")
_ABBREVIATED = re.compile(r"\b(?:[A-Za-z]|Mrs?|Ms|Dr|St|vs|approx|No)\.$")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?:\*\*|_)?\s+(?=[A-Z\\$*(\d])")
_COMPLETE = re.compile(r"(?:[.!)*\]$}✓✅]|=\s*\\?[$£€]?-?[\d.,/]+)$")
_NEGATED = re.compile(r"\b(?:not|never|cannot)\b|n't\b", re.IGNORECASE)
_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|equals?|becomes?)\s+(?:[a-z]+\s+){0,3}(?:\*\*)?$", re.IGNORECASE
)
_LEAD = re.compile(
    r"[\W_]*(?:\w+\W+){0,2}?(?:after|if|for|in|with|since|given|at|on|when|by|out of|from|over|because|as|to)\b"
    r"[^,.]{0,200},\s",
    re.IGNORECASE,
)
_GLUE = re.compile(
    r"(?:\\[()\[\]]|[$,;&\s*]|\\(?:quad|qquad|[,;:! ])|\\text\s*\{\s*(?:,|and|or)?\s*\}|\band\b|\bor\b"
    r"|[a-zA-Z](?:_\{?\w\}?)?\s*=)*"
)


@dataclass(frozen=True, slots=True)
class _Value:
    text: str
    number: Fraction | None
    start: int


def concluding_value(text: str) -> str | None:
    """The value of the last sentence that concludes something; None if no sentence does.

    Only the end of the text is read. What follows the sentence may be a remark, but not more of the solution, and a
    sentence that was cut off in the middle concludes nothing.
    """
    text = text[-_TAIL:].rstrip()
    sentences = _sentences(_DISPLAY.sub(lambda match: " " + match[1].replace("\n", " "), text))
    behind = 0
    for index in range(len(sentences) - 1, -1, -1):
        sentence = sentences[index]
        last = index == len(sentences) - 1
        before = "\n".join(sentences[:index])
        if not last or _COMPLETE.search(sentence):
            found = _of_sentence(sentence, before, opened=bool(_OPENING.match(sentence)), last=last)
            if found:
                return found
        behind += len(sentence)
        if behind > _REMARK or _EQUALS.search(sentence):
            return None
    return None


def computed_value(sentence: str, before: str) -> str | None:
    """The value of a sentence that was computed last in the text before it; None if it has no such value."""
    values = _values(sentence)
    for result in _results(before):
        for value in values:
            if value.number == result:
                return value.text
    return None


def is_list(between: str) -> bool:
    """Whether two values with this text between them are members of one list ("3, 5 and x = 7")."""
    return _GLUE.fullmatch(between) is not None


def right_side(math: str) -> str:
    """What a formula says its left side is: the part after its last equals sign, all of it if it has none."""
    ends = [match.end() for match in _EQUALS.finditer(math)]
    whole = math.strip()
    return whole if not ends or "," in whole else math[ends[-1] :].strip().rstrip(".,") or whole


def _sentences(text: str) -> list[str]:
    found: list[str] = []
    for line in text.split("\n"):
        joined = ""
        for part in _SENTENCE_END.split(line):
            joined = f"{joined} {part}" if joined else part
            if not _ABBREVIATED.search(part):
                found.append(joined.strip())
                joined = ""
        found.append(joined.strip())
    return [sentence for sentence in found if sentence]


def _of_sentence(sentence: str, before: str, *, opened: bool, last: bool) -> str | None:
    """The value that a sentence concludes with, if it concludes: by its opening, or as a last word with a result."""
    if (opened or last) and (right := _of_equation(sentence)):
        return right
    if (opened or last) and (computed := computed_value(sentence, before)):
        return computed
    if not opened or _NEGATED.search(sentence):
        return None
    return _emphasised(sentence) or _first(sentence)


def _of_equation(sentence: str) -> str | None:
    """The right side of a sentence's last equation, unless the sentence names something else after it."""
    ends = [match.end() for match in _EQUALS.finditer(sentence)]
    if not ends:
        return None
    close = _MATH_END.search(sentence, ends[-1])
    inside = sentence[ends[-1] : close.start()] if close else ""
    if close and inside.strip() and not _INLINE.search(sentence, close.end()):
        return inside.strip().rstrip(".,").strip()
    value = _VALUE.match(sentence, ends[-1])
    return value[0].strip() if value else None


def _emphasised(sentence: str) -> str | None:
    """The one bold or mathematical value of a sentence; of several, the list that follows "is" or "are"."""
    for pattern in (_EMPHASIS, _INLINE):
        spans = [(next(filter(None, match.groups())), match) for match in pattern.finditer(sentence)]
        spans = [(inner, match) for inner, match in spans if _values(inner) or "\\pi" in inner]
        if len(spans) == 1:
            inner = spans[0][0]
            return inner.strip() if pattern is _INLINE else _values(inner)[0].text
        for index, (_, match) in enumerate(spans):
            if _COPULA.search(sentence[: match.start()]):
                return ", ".join(_run(sentence, spans[index:]))
    return None


def _run(sentence: str, spans: list[tuple[str, re.Match[str]]]) -> Iterator[str]:
    end = None
    for inner, match in spans:
        if end is not None and not is_list(sentence[end : match.start()]):
            return
        yield inner.strip()
        end = match.end()


def _first(sentence: str) -> str | None:
    values = _values(sentence)
    lead = _LEAD.match(sentence)
    behind = [value for value in values if lead is None or value.start >= lead.end()]
    return next((value.text for value in behind or values), None)


def _values(text: str) -> list[_Value]:
    return [
        _Value(match[0].strip(), _number(match[0]), match.start())
        for match in _VALUE.finditer(text)
        if not _NAMED.search(text[max(0, match.start() - 20) : match.start()])
    ]


def _results(before: str) -> Iterator[Fraction]:
    """The values that were computed last, latest first."""
    text = before[-_TAIL // 2 :]
    seen: set[Fraction] = set()
    for match in reversed(list(_EQUALS.finditer(text))):
        value = _VALUE.match(text, match.end())
        number = _number(value[0]) if value else None
        if number is not None and number not in seen:
            seen.add(number)
            yield number
        if len(seen) == _RESULTS:
            return


def _number(value: str) -> Fraction | None:
    return as_number(tidy(value).removesuffix("%").rstrip())
