"""Reading GSM8K: a worked solution as lines, each with at most one calculation that its annotation proves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from annotated.numbers import NUMBER, Tokens, agrees, as_fraction, evaluate, is_number, plain, tokens_of
from genprm.sources.rows import rows_of

_ANNOTATION = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
_BARE = re.compile(r"(?:(?<=[\s(])|^)[\d$(.][\d\s+\-*/x×÷().,$%]*=\s*\$?\s*$")
_UNSPOKEN = re.compile(r"[^<>=]{0,40}?=\s*\$?\s*$")
_RESULT = re.compile(rf"\$?({NUMBER})")
_CALCULATES = re.compile(r"\d\s*[-+*/x=×÷]\s*\$?\d|=")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a worked solution.

    Attributes:
        before, after: the sentence around its calculation; without one, `before` is the line.
        tokens: what is calculated; empty if nothing is.
        result: the result as the text writes it, commas left out.
        currency: whether the result carries a dollar sign.
    """

    before: str
    after: str = ""
    tokens: Tokens = ()
    result: str = ""
    currency: bool = False

    @property
    def value(self) -> Fraction:
        """The result."""
        return as_fraction(self.result)

    def sentence(self, middle: str) -> str:
        """The line with something in the place of its calculation."""
        return f"{self.before}{middle}{self.after}"


@dataclass(frozen=True, slots=True)
class Worked:
    """A problem with its worked solution; the last line's result is the answer."""

    id: str
    question: str
    lines: tuple[Line, ...]
    answer: str

    @property
    def calculations(self) -> tuple[int, ...]:
        """Indices of the lines that calculate."""
        return tuple(index for index, line in enumerate(self.lines) if line.tokens)


def read_worked(rows: Iterator[tuple[str, str, str]]) -> Iterator[Worked]:
    """The solutions whose every number is proved by an annotation; the others are passed over.

    Args:
        rows: id, question and GSM8K's answer field (lines, annotations, `#### answer`).
    """
    for name, question, answer in rows:
        body, mark, final = answer.rpartition("####")
        if not mark or not re.fullmatch(NUMBER, final.strip()):
            continue
        lines = [_line(text.strip()) for text in body.splitlines() if text.strip()]
        known = [line for line in lines if line is not None]
        if not known or len(known) < len(lines) or not known[-1].tokens:
            continue
        if known[-1].value == as_fraction(final.strip()):
            yield Worked(name, " ".join(question.split()), tuple(known), known[-1].result)


def gsm8k_rows(source: str) -> Iterator[tuple[str, str, str]]:
    """Id, question and answer field of GSM8K's rows: a file, or `hub:ID` for the data set's training split.

    Raises:
        DataError: the source cannot be read, or a row has no question or answer.
    """
    for number, row in enumerate(rows_of(source, "train", "main")):
        yield f"train-{number}", row.text("question"), row.text("answer")


def _line(text: str) -> Line | None:
    """A line as sentence and calculation; None if an annotation does not prove it."""
    found = _ANNOTATION.findall(text)
    if not found:
        return None if _CALCULATES.search(text) else Line(text)
    match = _ANNOTATION.search(text)
    assert match is not None
    tokens = tokens_of(match[1])
    if len(found) > 1 or tokens is None or sum(map(is_number, tokens)) < 2:
        return None
    head, result = _spoken(text[: match.start()], tokens), _RESULT.match(text, match.end())
    value = evaluate(tokens)
    if head is None or result is None or value is None:
        return None
    claim = plain(as_fraction(result[1]))
    after = text[match.end() :][len(result[0].rstrip(".,")) :]
    if not agrees(value, claim) or value <= 0 or _CALCULATES.search(after) or "=" in head:
        return None
    if claim in {plain(as_fraction(number)) for number in re.findall(NUMBER, f"{head} {after}")}:
        return None  # the sentence says its result twice
    currency = "$" in text[len(head) : match.start()] or result[0].startswith("$")
    return Line(head, after, tokens, claim, currency)


def _spoken(before: str, tokens: Tokens) -> str | None:
    """What stands before the calculation as the text spells it, its units among the numbers included."""
    bare = _BARE.search(before)
    if bare is not None and any(sign in bare[0] for sign in "+-*/x×÷"):
        return before[: bare.start()]
    numbers = [re.escape(token) for token in tokens if is_number(token)]
    spelled = r"[^<>=\d]{1,40}?".join(_flexible(number) for number in numbers)
    match = re.search(rf"\$?{spelled}(?!\d){_UNSPOKEN.pattern}", before)
    return before[: match.start()] if match else None


def _flexible(number: str) -> str:
    """A pattern for a number that may have commas between thousands."""
    whole, point, rest = number.partition("\\.")
    return r"(?<!\d)" + ",?".join(whole) + (rf"\.{rest}0*" if point else r"(?:\.0+)?")
