"""Telling a solution in paragraphs, in the manners in which policies write, and what each paragraph claims."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from annotated.corrupting import Claim, Told, slipped, source_of
from annotated.numbers import NUMBER, Tokens, agrees, as_fraction, is_number, reduced, with_commas
from annotated.quoting import clause_for, numbers_in, sentences
from annotated.reading import Line, Worked

Manner = Literal["plain", "ordinal", "steps", "latex"]
MANNERS: dict[Manner, int] = {"plain": 30, "ordinal": 22, "steps": 12, "latex": 36}
NAMES = "abcdefgh"
_MOST_CHECKS = 3

_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Tenth")
_LEADS = ("Next", "Then", "Now")
_LOWERED = set(
    re.findall(
        r"\w+", "He She It They The This That These In There We So Each If On At To For Her His Their"
    )
)
_CONNECTIVE = re.compile(r"(?i)^(?:so|Thus|Therefore|Then|Next|Now|Finally|First|Hence)\b,?\s*")
_INTROS = (
    "To find the answer, we need to work through the problem step by step.",
    "Let's break down the problem step by step.",
    "Let's break it down step by step:",
    "To solve this problem, we need to follow these steps.",
    "We start with the information given in the problem.",
    "To answer the question, let's look at what is given.",
)
_PLANS = (
    "To find the answer, we need to follow these steps:",
    "To solve this problem, let's break it down into steps:",
    "We can find this as follows:",
    "To determine this, we need to:",
)
_FACTS = ("We know that ", "From the problem, ", "The problem says: ", "Given: ", "")
_ENDINGS = (
    "Therefore, the answer is {}.",
    "So, the final answer is {}.",
    "Thus, the answer to the question is {}.",
    "Therefore, the final answer is: {}",
    "The answer is {}.",
)
_CONCLUDING = ("Therefore", "So", "Thus", "Hence", "Therefore", "In conclusion")
_PLANNED_WORDS = 10
_OPERANDS = {
    "+": (
        ("First amount", "Second amount"),
        ("Total so far", "New amount"),
        ("Cost of one", "Cost of the other"),
    ),
    "-": (("Total", "Part"), ("Amount before", "Amount used"), ("Total money", "Cost")),
    "*": (
        ("Number of items", "Price per item"),
        ("Hours", "Rate per hour"),
        ("Number of groups", "Group size"),
    ),
    "/": (("Total", "Number of parts"), ("Total cost", "Number of items"), ("Distance", "Speed")),
}
_VERBS = {
    "+": "we add {} and {}",
    "-": "we subtract {1} from {0}",
    "*": "we multiply {} by {}",
    "/": "we divide {} by {}",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a paragraph claims, and what it should be.

    Attributes:
        quote: the words of the problem that it rests on; None if it rests on earlier results alone.
        before, after: the sentence around what is calculated.
        tokens: what is to be calculated; names stand for results of the same paragraph's earlier checks.
        claimed: what the paragraph calculates.
        claim: the result that the paragraph states.
        value: the true result.
        key: what marks an operand of a later check as this one's result; empty if nothing does.
    """

    quote: str | None
    before: str
    after: str
    tokens: Tokens
    claimed: Tokens
    claim: str
    value: Fraction
    key: str = ""

    @property
    def holds(self) -> bool:
        """Whether the paragraph claims what is true."""
        return agrees(self.value, self.claim)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A step of a solution: its text, and what it claims, in order."""

    text: str
    checks: tuple[Check, ...] = ()

    @property
    def right(self) -> bool:
        """Whether everything that it claims is true."""
        return all(check.holds for check in self.checks)


def tell(worked: Worked, told: Told, rng: random.Random) -> list[Paragraph]:
    """The paragraphs of a solution, in a drawn manner."""
    return _Teller(worked, told, rng).paragraphs()


class _Teller:
    """Tells one solution; every choice comes from its random stream."""

    def __init__(self, worked: Worked, told: Told, rng: random.Random) -> None:
        self.worked, self.told, self.rng = worked, told, rng
        self.manner: Manner = rng.choices(list(MANNERS), weights=list(MANNERS.values()))[0]
        self.commas = rng.random() < 0.4
        self.times = rng.choice(["*", "x", "×"] if self.manner != "latex" else ["\\times"])
        self.spaced = self.manner == "latex" or rng.random() < 0.7

    def paragraphs(self) -> list[Paragraph]:
        """Opening, calculations and ending, some of them joined."""
        opening = self._opening()
        body = [
            self._line(line, claim, index)
            for index, (line, claim) in enumerate(zip(self.worked.lines, self.told.claims, strict=False))
        ]
        parts = [*self._joined(body), *self._ending()]
        if opening is not None and self.rng.random() < 0.35:
            parts[0] = _merged(opening, parts[0])
        elif opening is not None:
            parts.insert(0, opening)
        return [
            replace(_renamed(part), text=self._headed(part.text, index)) for index, part in enumerate(parts)
        ]

    def _opening(self) -> Paragraph | None:
        """A sentence of announcement, with facts of the problem restated or without."""
        misquoted = self.told.kind == "misquoted"
        if not misquoted and self.rng.random() < 0.35:
            return None
        plan = self._plan()
        if plan and not misquoted and self.rng.random() < 0.3:
            return Paragraph(plan)
        intro = self.rng.choice(_INTROS)
        stated = [part for part in sentences(self.worked.question) if part.endswith(".")]
        facts = [part for part in stated if 0 < len(numbers_in(part)) <= 2]
        if not facts or (not misquoted and self.rng.random() < 0.5):
            return Paragraph(intro)
        chosen = facts[: self.rng.randint(1, 2)]
        wrong = self.rng.randrange(len(chosen)) if misquoted else None
        told = [self._fact(fact, index == wrong) for index, fact in enumerate(chosen)]
        lead = self.rng.choice(_FACTS)
        if self.rng.random() < 0.6:
            lead = f"{intro} {lead}"
        checks = tuple(check for _, found in told for check in found)
        return Paragraph(lead + " ".join(text for text, _ in told), checks)

    def _plan(self) -> str:
        """What will be found, in order, without a number; empty if too few lines say it in words."""
        found = [words for line in self.worked.lines if line.tokens and (words := _words(line))]
        if len(found) < 2:
            return ""
        if self.rng.random() < 0.5:
            found = found[:2]
        verb = self.rng.choice(("calculate", "find", "determine"))
        steps = [f"{order}, {verb} the {words}." for order, words in zip(_ORDINALS, found, strict=False)]
        return " ".join([self.rng.choice(_PLANS), *steps])

    def _fact(self, fact: str, wrong: bool) -> tuple[str, list[Check]]:
        """A sentence of the problem, with one of its numbers changed or as it is."""
        spans = [match.span() for match in re.finditer(NUMBER, fact)]
        at = self.rng.randrange(len(spans)) if wrong else None
        text, checks, end = "", [], 0
        for index, (start, stop) in enumerate(spans):
            (number,) = numbers_in(fact[start:stop])
            claim = self._misquote(number) if index == at else number
            text += fact[end:start] + (fact[start:stop] if claim == number else claim)
            end = stop
            quote = fact.rstrip(".") if index == 0 else None
            checks.append(Check(quote, "the number ", "", (number,), (claim,), claim, as_fraction(number)))
        return text + fact[end:], checks

    def _misquote(self, number: str) -> str:
        others = [
            other for other in numbers_in(self.worked.question) if not agrees(as_fraction(number), other)
        ]
        if others and self.rng.random() < 0.6:
            return self.rng.choice(others)
        for _ in range(20):
            other = slipped(number, self.rng)
            if not agrees(as_fraction(number), other):
                return other
        return str(int(as_fraction(number)) + 1)

    def _line(self, line: Line, claim: Claim | None, index: int) -> Paragraph:
        if claim is None:
            return Paragraph(_ended(line.before))
        check = self._check(line, claim, index)
        text = self._told_line(line, claim)
        if check.quote and self.rng.random() < 0.25:
            text = f"{_ended(check.quote[0].upper() + check.quote[1:])} {text}"
        return Paragraph(text, (check,))

    def _check(self, line: Line, claim: Claim, index: int) -> Check:
        own = [t for t in line.tokens if is_number(t) and source_of(self.worked, t, index) is None]
        quote = clause_for(self.worked.question, own, line.sentence(" "))
        if quote is None and index == self.worked.calculations[-1]:
            quote = sentences(self.worked.question)[-1].rstrip("?. ")
        tokens = tuple(self._marked(token, index) for token in line.tokens)
        before = _CONNECTIVE.sub("", line.before)
        return Check(
            quote,
            before,
            line.after,
            tokens,
            claim.tokens,
            claim.result,
            line.value,
            f"{line.result}@{index}",
        )

    def _marked(self, token: str, index: int) -> str:
        """An operand that is an earlier result, marked with the line that it comes from."""
        source = source_of(self.worked, token, index) if is_number(token) else None
        return token if source is None else f"{token}@{source}"

    def _told_line(self, line: Line, claim: Claim) -> str:
        """The sentence with its calculation inside, before it, or displayed."""
        result = self._amount(claim.result, line)
        spoken = f"{self._chain(claim.tokens)} = {result}"
        way = self.rng.random()
        if way < 0.4 or not line.before.strip():
            return _ended(line.sentence(f"\\( {spoken} \\)" if self.manner == "latex" else spoken))
        said = _ended(line.sentence(result))
        spoken = self._named(line, claim) + spoken
        math = f"\\( {spoken} \\)" if self.manner == "latex" else spoken
        if self.manner == "latex" and way < 0.75:
            return f"{_ended(self._how(claim), ':')} \\[ {spoken} \\] {said}"
        if way < 0.8:
            return f"{self._how(claim)}: {math}. {said}"
        return f"{said} {self.rng.choice(('This is', 'The calculation is', 'That is'))} {math}."

    def _chain(self, tokens: Tokens) -> str:
        """What is calculated, now and then with the steps between: 2 * 3 * 4 = 6 * 4."""
        parts = [self._spoken(tokens)]
        if self.rng.random() < 0.4:
            while (rest := reduced(tokens)) is not None:
                tokens = rest
                parts.append(self._spoken(tokens))
        return " = ".join(parts)

    def _named(self, line: Line, claim: Claim) -> str:
        """What an equation says that it calculates: `Number of clips in May = `; mostly nothing.

        Now and then with its operands in words before their numbers: `Total = Price × Number of items = `.
        """
        if self.rng.random() < 0.6:
            return ""
        words = _words(line)
        parts = [f"Number of {words}" if words else self.rng.choice(("Total", "Result"))]
        signs = [token for token in claim.tokens if token in _VERBS]
        if len(signs) == 1 and len(claim.tokens) == 3 and self.rng.random() < 0.5:
            operands = self.rng.choice(_OPERANDS[signs[0]])
            sign = self._signs().get(signs[0], signs[0])
            shown = [f"\\text{{{one}}}" if self.manner == "latex" else one for one in operands]
            parts.append(f" {sign} ".join(shown))
        if self.manner == "latex":
            parts[0] = f"\\text{{{parts[0]}}}"
        return "".join(f"{part} = " for part in parts)

    def _how(self, claim: Claim) -> str:
        """What is about to be done, in words."""
        tokens = claim.tokens
        aim = self.rng.choice(("To find this, ", "To calculate this, ", "For this, ", ""))
        if len(tokens) == 3 and tokens[1] in _VERBS:
            said = aim + _VERBS[tokens[1]].format(tokens[0], tokens[2])
        else:
            said = aim + self.rng.choice(("we calculate", "we have", "we compute"))
        return said[0].upper() + said[1:]

    def _spoken(self, tokens: Sequence[str]) -> str:
        if self.manner == "latex" and len(tokens) == 3 and tokens[1] == "/" and self.rng.random() < 0.6:
            return f"\\frac{{{tokens[0]}}}{{{tokens[2]}}}"
        signs = self._signs()
        space = " " if self.spaced else ""
        written = [
            f"{space}{signs.get(token, token)}{space}" if token in "+-*/" else self._number(token)
            for token in tokens
        ]
        return "".join(written)

    def _signs(self) -> dict[str, str]:
        """How this solution writes multiplication and division."""
        return {"*": self.times, "/": "\\div" if self.manner == "latex" else self.rng.choice("//÷")}

    def _amount(self, number: str, line: Line) -> str:
        sign = ("\\$" if self.manner == "latex" else "$") if line.currency else ""
        return sign + self._number(number)

    def _number(self, number: str) -> str:
        return with_commas(number) if self.commas and is_number(number) else number

    def _joined(self, body: list[Paragraph]) -> list[Paragraph]:
        """Lines as paragraphs; now and then two or three in one."""
        parts: list[Paragraph] = []
        for part in body:
            if parts and len(parts[-1].checks) < _MOST_CHECKS and self.rng.random() < 0.22:
                parts[-1] = _merged(parts[-1], part)
            else:
                parts.append(part)
        return parts

    def _ending(self) -> list[Paragraph]:
        """The sentence that answers the question.

        Where the last line was told, it restates what that line found; a solution that ends too early calculates nothing
        of it, and its answer is compared with what the line should give.
        """
        skipped = self.told.kind == "skipped"
        if not skipped and self.rng.random() < 0.25:
            return []
        last = self.worked.calculations[-1]
        line = self.worked.lines[last]
        claim = [claim for claim in self.told.claims if claim is not None][-1]
        amount = self._amount(claim.result, line)
        boxed = f"\\boxed{{{amount}}}" if self.rng.random() < 0.5 else amount
        if self.manner == "latex" and self.rng.random() < 0.5:
            boxed = f"\\({boxed}\\)"
        text = self.rng.choice(_ENDINGS).format(boxed)
        if self.rng.random() < 0.7 and line.before.strip():
            said = _lowered(_CONNECTIVE.sub("", line.sentence(boxed)))
            text = f"{self.rng.choice(_CONCLUDING)}, {said}"
        # An earlier claim may be right where its line is right, and no answer all the same.
        check = self._check(line, claim, last) if skipped else self._restated(line, claim)
        return [Paragraph(_ended(text), (check,))]

    def _restated(self, line: Line, claim: Claim) -> Check:
        """The comparison of an answer with the result that the last line found."""
        quote = sentences(self.worked.question)[-1].rstrip("?. ")
        tokens, claimed = (line.result,), (claim.result,)
        return Check(quote, "found above, ", "", tokens, claimed, claim.result, line.value)

    def _headed(self, text: str, index: int) -> str:
        if self.manner == "steps":
            return f"Step {index + 1}: {text}"
        if (
            self.manner == "ordinal"
            and index < len(_ORDINALS)
            and not text.startswith(("Therefore", "So", "Thus", "The answer"))
        ):
            return f"{_ORDINALS[index]}, {_lowered(_CONNECTIVE.sub('', text))}"
        if self.manner == "latex" and index and self.rng.random() < 0.25 and not _CONNECTIVE.match(text):
            return f"{self.rng.choice(_LEADS)}, {_lowered(text)}"
        return text


def _merged(one: Paragraph, other: Paragraph) -> Paragraph:
    return Paragraph(f"{one.text} {other.text}", one.checks + other.checks)


def _renamed(part: Paragraph) -> Paragraph:
    """Operands that are results of the same paragraph, by the names of the checks that find them."""
    checks: list[Check] = []
    names: dict[str, str] = {}
    for check, name in zip(part.checks, NAMES, strict=False):
        tokens = tuple(names.get(token, token.partition("@")[0]) for token in check.tokens)
        checks.append(replace(check, tokens=tokens))
        if check.key:
            names[check.key] = name
    return replace(part, checks=tuple(checks))


def _words(line: Line) -> str:
    """What a line's result counts, as its sentence goes on after it; empty where that has numbers or is too long."""
    words = line.after.strip(" .").split()
    spelled = any(any(char.isdigit() for char in word) for word in words)
    return "" if spelled or len(words) >= _PLANNED_WORDS or "=" in line.after else " ".join(words)


def _ended(text: str, mark: str = ".") -> str:
    text = text.strip()
    return text if text.endswith((".", ":", "!", "?", ")", "]")) else text + mark


def _lowered(text: str) -> str:
    first, space, rest = text.partition(" ")
    return f"{first.lower()}{space}{rest}" if first in _LOWERED else text
