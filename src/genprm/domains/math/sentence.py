r"""The value of one sentence: which of its numbers, formulas or emphasised words is what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from genprm.domains.math.equality import is_prose
from genprm.domains.math.normal import as_number, tidy

_LOOK_BACK = 2000
_RESULTS = 2

_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
# Neither part of a word or an index ("H2O", "x_1", "3D") nor of a time of day or a ratio ("7:30").
VALUE = re.compile(
    rf"""(?<![\w.^_\\:])(?:(?<![\d)}}\w]\ )[-−]\s?)?(?:\\?[$£€¥₹]\s?)?[-−]?
    (?: (?:{_DIGITS}\s*)?\\[dt]?frac\s*\{{\s*\d+\s*\}}\s*\{{\s*\d+\s*\}}
      | \d+\s+\d+\s*/\s*\d+(?![\d/])
      | {_DIGITS}\s*/\s*{_DIGITS}(?![\d/])
      | {_DIGITS}
    )(?:\s?\\?%)?(?![\w]*\d|[A-Z]|:\d)""",
    re.VERBOSE | re.ASCII,
)
_CLOCK = re.compile(r"(?<![\w:.])\d{1,2}:[0-5]\d(?![\d:])(?:\s?[ap]\.?m\b\.?)?", re.IGNORECASE | re.ASCII)
_NAMED = re.compile(
    r"\b(?:step|day|part|question|problem|case|figure|equation|year|chapter|page|option)(?:\s|:\s)\s*\W{0,3}$",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"\*\*(?!\s)([^*\n]{1,200})\*\*")
_INLINE = re.compile(r"\\\((.{1,300}?)\\\)|(?<![\\$\w])\$(?![\s$])([^$]{1,300}?)(?<![\s\\])\$(?!\d)")
_SHOWN = re.compile(r"\\\[(.{1,2000}?)\\\]|\$\$(.{1,2000}?)\$\$", re.DOTALL)
_AND = re.compile(r"[\s,;$&]*(?:\\\)|\\\()?\s*(?:and|or)?[\s$]*(?:\\\()?")
_MATH_END = re.compile(r"\\[\])]|\$|\*\*|\\end\s*\{(?:align|equation|gather|split|multline)")
# Words between an equals sign and a dollar: the dollar is money.
_SPOKEN = re.compile(r"(?<![\\{a-zA-Z])[a-z]{2,}\s+[a-z]{2,}")
EQUALS = re.compile(r"(?:(?<![<>!\\])=|≈|\\approx(?![a-z]))\s*&?\s*")
_REASON = re.compile(
    r"\s(?:because|since|given that)\s(?!.*\b(?:therefore|thus|hence|so|consequently)\b)", re.IGNORECASE
)
# "rounds up to 17", but not "rounded to 2 decimal places".
_ROUNDED = re.compile(
    r"\bround(?:s|ed|ing)?(?:\s+(?:up|down|off))?\s+to\s+\W{0,3}(?=[$\d])(?!\d+\s+(?:decimal|significant|places?|digits?|d\.?p))",
    re.IGNORECASE,
)
# A remark in parentheses, of words and numbers: "(16 - 7 = 9 eggs are sold)".
_ASIDE = re.compile(r"\s\((?=[^()\\]*[A-Za-z]{3})[^()\\]*\)")
_IS = re.compile(
    r"(?:(?:\b(?:is|are|was|were|equals|becomes?|will be|would be)\b|:(?=\s)|(?<![<>!\\=])=(?!=)|∈|\\in(?![a-z]))"
    r"(?:\s+(?:equal to|approximately|about|exactly|only|just|now|thus|therefore|also|at|simply|found to be|given by))*"
    r"|(?=\b[a-zA-Z]\s*(?:[<>≤≥]|\\(?:leq?|geq?)(?![a-z]))))[\s*_]*",
)
_TRIMMED = re.compile(r"[\s.!?*_✓✅。|]+\Z")
_UNIT_BEHIND = re.compile(r"[\s*_]*(?:[A-Za-z²³/]+\b\.?[\s*_]*){0,4}")
_MATHEMATICAL = re.compile(r"\d|\\(?:pi|sqrt|infty|emptyset)|[π√∞∅^]")
_JOINED = re.compile(
    r"\b(?:if|when|for|as|so|but|per|in|on|at|with|than|while|where|which|of|to|by)\b|\$|\\[()\[\]]|[;?]"
)
_LONGEST = 80
_NEGATED = re.compile(r"\b(?:not|never|cannot)\b|n't\b", re.IGNORECASE)
_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|equals?|becomes?)\s+(?:[a-z]+\s+){0,3}(?:\*\*)?$", re.IGNORECASE
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|has|have|had|will|would|can|could|must|does|did|\w+(?:ed|ts|ns|ys|ds|ves|kes|ses|des|ars)"
    r"|got|went|spent|paid|sold|made|took|left|won|ran|ate|gave)\b",
    re.IGNORECASE,
)
# One quantity in two units: neither of its numbers is the answer.
_COMPOUND = re.compile(
    rf"(?<![\d.,]){_DIGITS}\s?(?:years?|months?|weeks?|days?|hours?|hrs?|h|minutes?|mins?|feet|foot|ft|pounds?|lbs?|dollars?)"
    rf"(?:,?\s+and|,)?\s+{_DIGITS}\s?(?:months?|weeks?|days?|hours?|minutes?|mins?|seconds?|secs?|inch(?:es)?|ounces?|oz|cents)\b",
    re.IGNORECASE | re.ASCII,
)
_ASSIGNED = re.compile(
    rf"(?<![\w^_+*/\\-])(?P<name>[a-zA-Z](?:_\{{?\w\}}?)?)\s*=\s*(?P<value>-?\s?{_DIGITS}(?:/\d+)?)(?![\w^(])"
)
_GROUP = re.compile(r"[(\[]\s*[^()\[\]=]{1,100},[^()\[\]=]{1,100}[)\]]")
# "Each of the 3 friends gets 4": the text speaks of 3 friends before.
_KNOWN = re.compile(
    r"\b(?:the|these|those|all|both|each of|every|first|last|next|his|her|their|its)\s+\Z", re.IGNORECASE
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


def value_of_sentence(sentence: str, before: str, *, opened: bool, last: bool) -> str | None:
    """The value that a sentence concludes with, if it concludes: by its opening, or as a last word with a result."""
    if not (opened or last):
        return None
    sentence = _without_asides(sentence)
    if found := _rounded(sentence) or _of_equation(sentence):
        return found
    negated = bool(_NEGATED.search(sentence))
    found = (None if negated else _complement(sentence)) or computed_value(sentence, before)
    if found or negated:
        return found
    return (_emphasised(sentence) or _first(sentence)) if opened else _emphasised(sentence, (_EMPHASIS,))


def _without_asides(sentence: str) -> str:
    """Without the reason that ends a sentence and a remark in parentheses, if a value stands before them."""
    for aside in (_REASON, _ASIDE):
        match = aside.search(sentence)
        if match and VALUE.search(sentence[: match.start()]):
            sentence = sentence[: match.start()] + (sentence[match.end() :] if aside is _ASIDE else "")
    return sentence


def _rounded(sentence: str) -> str | None:
    match = _ROUNDED.search(sentence)
    value = VALUE.match(sentence, match.end()) if match else None
    return value[0].strip() if value else None


def stated_value(sentence: str) -> str | None:
    """The one value of a sentence, if a verb stands before it ("the farmer has 24 sheep"); None otherwise."""
    values = _values(sentence)
    if len(values) != 1 or _NEGATED.search(sentence) or not _VERB.search(sentence[: values[0].start]):
        return None
    return values[0].text


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
    ends = [match.end() for match in EQUALS.finditer(math)]
    whole = math.strip()
    return whole if not ends or "," in whole else math[ends[-1] :].strip().rstrip(".,") or whole


def _of_equation(sentence: str) -> str | None:
    """The right side of a sentence's last equation, unless the sentence names something else after it."""
    ends = [match.end() for match in EQUALS.finditer(sentence)]
    if not ends:
        return None
    verbs = list(_IS.finditer(sentence))
    if verbs and verbs[-1].start() > ends[-1] and (said := _complement(sentence)):
        return said
    if (group := _GROUP.match(sentence, ends[-1])) or (listed := _assigned(sentence, ends[-1])):
        return group[0] if group else listed
    close = _MATH_END.search(sentence, ends[-1])
    inside = sentence[ends[-1] : close.start()] if close else ""
    if (
        close
        and inside.strip()
        and not _SPOKEN.search(inside)
        and not _INLINE.search(sentence, close.end())
    ):
        return inside.strip().rstrip(".,").strip()
    value = VALUE.match(sentence, ends[-1])
    return (_complement(sentence) or value[0].strip()) if value else None


def _assigned(sentence: str, end: int) -> str | None:
    """`x = 3, y = 4` if the sentence's last equation, whose sign ends at `end`, closes such a list of names."""
    run: list[re.Match[str]] = []
    for match in _ASSIGNED.finditer(sentence):
        joined = run and _AND.fullmatch(sentence[run[-1].end() : match.start()])
        run = [*run, match] if joined else [match]
    if len(run) < 2 or not run[-1].start() < end <= run[-1].start("value"):
        return None
    if len({match["name"] for match in run}) == 1:
        return ", ".join(match["value"] for match in run)
    return ", ".join(f"{match['name']} = {match['value']}" for match in run)


def _complement(sentence: str) -> str | None:
    """What stands behind a sentence's last "is" or equals sign, if it is a value, a list or a formula and ends it."""
    verbs = list(_IS.finditer(sentence))
    if not verbs or sentence.endswith(":"):
        return None
    rest = _TRIMMED.sub("", sentence[verbs[-1].end() :]).strip()
    value = VALUE.match(rest)
    if value and _UNIT_BEHIND.fullmatch(rest, value.end()):
        return value[0].strip() if not _NAMED.search(sentence[: verbs[-1].end()]) else None
    if not 0 < len(rest) <= _LONGEST or not _MATHEMATICAL.search(rest) or _JOINED.search(rest):
        return None
    return None if is_prose(tidy(rest)) else rest


def _emphasised(
    sentence: str, patterns: tuple[re.Pattern[str], ...] = (_EMPHASIS, _INLINE, _SHOWN)
) -> str | None:
    """The one bold or mathematical value of a sentence; of several, the list that follows "is" or "are"."""
    for pattern in patterns:
        spans = [(next(filter(None, match.groups())), match) for match in pattern.finditer(sentence)]
        spans = [(inner, match) for inner, match in spans if _values(inner) or "\\pi" in inner]
        if len(spans) == 1:
            inner = spans[0][0]
            return _values(inner)[0].text if pattern is _EMPHASIS else inner.strip()
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
    if not values:
        clock = list(_CLOCK.finditer(sentence))
        return clock[0][0].strip() if len(clock) == 1 else None
    lead = _LEAD.match(sentence)
    behind = [value for value in values if lead is None or value.start >= lead.end()] or values
    asked = [value for value in behind if not _KNOWN.search(sentence[: value.start])]
    return (asked or behind)[0].text


def _values(text: str) -> list[_Value]:
    found = []
    end = 0
    compounds = {match.start(): match for match in _COMPOUND.finditer(text)}
    for match in VALUE.finditer(text):
        if match.start() < end or _NAMED.search(text[max(0, match.start() - 20) : match.start()]):
            continue
        compound = next(
            (compounds[at] for at in range(match.start(), match.end()) if at in compounds), None
        )
        if compound:
            end = compound.end()
            found.append(_Value(compound[0], None, match.start()))
        else:
            found.append(_Value(match[0].strip(), _number(match[0]), match.start()))
    return found


def _results(before: str) -> Iterator[Fraction]:
    """The values that were computed last, latest first."""
    text = before[-_LOOK_BACK:]
    seen: set[Fraction] = set()
    for match in reversed(list(EQUALS.finditer(text))):
        value = VALUE.match(text, match.end())
        number = _number(value[0]) if value else None
        if number is not None and number not in seen:
            seen.add(number)
            yield number
        if len(seen) == _RESULTS:
            return


def _number(value: str) -> Fraction | None:
    return as_number(tidy(value).removesuffix("%").rstrip())
