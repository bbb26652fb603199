r"""The answer of a solution that announces none: the value of its concluding sentence.

Half of the real solutions to word problems end like "Therefore, he will be 20 minutes early." Which of a sentence's
values is meant is decided in this order: the right side of its last equation; the value that was computed last before
it; the one that is emphasised; the first one after a leading clause ("After 5 days, ...").
"""

from __future__ import annotations

import re

from genprm.domains.math.sentence import EQUALS, VALUE, value_of_sentence

_TAIL = 4000
_REMARK = 400

_OPENING = re.compile(
    r"""[\W_]*(?:(?:and|but|now)\W+)?(?:
        therefore|thus|hence|so|consequently|accordingly|finally|altogether|overall|ultimately|lastly
      | in\s+(?:conclusion|total|summary|all|the\s+end) | as\s+a\s+result | to\s+(?:conclude|summari[sz]e)
      | (?:this|that|which|it)\s+(?:means|implies|gives|leaves|follows|shows)
      | we\s+(?:conclude|get|find|have|obtain) | (?:the\s+)?(?:final\s+)?(?:answer|result|total|conclusion)
    )\b | .*\b(?:therefore|thus|hence|so|consequently),?\s | [\W_]*(?:因此|所以|综上|于是|总共|故|答[：:])""",
    re.IGNORECASE | re.VERBOSE,
)
_DISPLAY = re.compile(
    r"\s*(\\\[.{1,2000}?\\\]|\$\$.{1,2000}?\$\$"
    r"|\\begin\{(?P<name>align|equation|gather|multline|eqnarray)\*?\}.{1,2000}?\\end\{(?P=name)\*?\})",
    re.DOTALL,
)
_ABBREVIATED = re.compile(r"\b(?:[A-Za-z]|Mrs?|Ms|Dr|St|vs|approx|No)\.$")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?:\*\*|_)?\s+(?=[A-Z\\$*(\d])|(?<=[。！？])")
_COMPLETE = re.compile(r"(?:[.!)*\]$}|。！✓✅]|[=:][\s*]*\\?[$£€¥₹]?-?[\d.,/]+)$")
# A sentence without its full stop that ends with a value and what it counts; not one that was cut off.
_COUNTED = (
    r"\d(?:\s?%)?(?:\s+(?!(?:the|an?|of|to|and|or|than|times|is|are|was|for|in|on|at|by|per|more|less|that|which|with|from)\b)"
    r"[a-zA-Z/]+)"
)
_ENDS_WITH_UNIT = re.compile(rf"{_COUNTED}{{1,2}}$")
_EQUATION_WITH_UNIT = re.compile(rf"=\s*\\?[$£€]?-?[\d.,/]*{_COUNTED}{{1,3}}$")
_CHECK = re.compile(
    r"[\W_]*(?:(?:so|now|let(?:'s|\s+us|\s+me)|we|i|to|you|can|also|quick|final)\W+){0,4}"
    r"(?:(?:double|re|cross)-?\s*)?(?:check|verif(?:y|ication)|proof|confirm|sanity|explanation|note)\b",
    re.IGNORECASE,
)


def concluding_value(text: str) -> str | None:
    """The value of the last sentence that concludes something; None if no sentence does.

    Only the end of the text is read. What follows the sentence may be a remark, but not more of the solution, and a
    sentence that was cut off in the middle concludes nothing.
    """
    text = text[-_TAIL:].rstrip()
    sentences = _sentences(_DISPLAY.sub(lambda match: " " + match[1].replace("\n", " "), text))
    sentences, checked = _without_check(sentences)
    behind = 0
    for index in range(len(sentences) - 1, -1, -1):
        sentence = sentences[index]
        last = index == len(sentences) - 1 and not checked
        before = "\n".join(sentences[:index])
        opened = bool(_OPENING.match(sentence))
        if not last or _is_complete(sentence, opened=opened):
            found = value_of_sentence(sentence, before, opened=opened, last=last)
            if found:
                return found
        behind += len(sentence)
        if behind > _REMARK or EQUALS.search(sentence):
            return None
    return None


def _is_complete(sentence: str, *, opened: bool) -> bool:
    """Whether a last sentence was not cut off, as far as its end shows."""
    with_unit = _ENDS_WITH_UNIT if opened else _EQUATION_WITH_UNIT
    return bool(_COMPLETE.search(sentence) or with_unit.search(sentence))


def _without_check(sentences: list[str]) -> tuple[list[str], bool]:
    """Without a check that follows a conclusion ("Check: 24 / 6 = 4"), and whether there was one."""
    opened = [
        index
        for index, sentence in enumerate(sentences)
        if _OPENING.match(sentence) and not _CHECK.match(sentence) and VALUE.search(sentence)
    ]
    for index in range(max(1, opened[-1] + 1 if opened else 1), len(sentences)):
        if _CHECK.match(sentences[index]):
            return sentences[:index], True
    return sentences, False


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
