"""The tutor: a scripted teacher that derives each value from the problem, runs Python, compares and concludes.

It answers the `teacher` prompt as a model would, and knows from the annotations what each paragraph should find. For each
thing that a paragraph claims it quotes the problem's words, writes down what is to be calculated without looking at the
claim, calculates it in Python together with the comparison, and judges by what the code printed. At seeded rates it
errs like a reader: it takes the wrong operation, or the paragraph's own expression, and follows what that gives;
the consensus with the labels is there to drop those. It is no model: reports name it `scripted`.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from annotated.corrupting import swapped
from annotated.numbers import Tokens, precision
from annotated.writing import NAMES, Check, Paragraph
from genprm.engines import Request
from genprm.errors import EngineRequestError
from genprm.records import NO_ERROR

NOTHING = "nothing to calculate"
_OUTPUT = re.compile(r"\[Code Output\]\s*```[a-z]*\n(.*?)\n?```", re.DOTALL)
_CLOSED = "\n```\n"


@dataclass(frozen=True, slots=True)
class Rates:
    """How often the tutor errs.

    Attributes:
        misread: share of solutions in which it derives one value wrongly, and follows that.
        faulty_code: share of paragraphs whose first code fails; it then writes the right code.
    """

    misread: float = 0.06
    faulty_code: float = 0.02


class Tutor:
    """A responder for the scripted engine.

    Args:
        solutions: per solution the text of its user turn's paragraphs, as the teacher's profile shows them, and what
            they claim.
        seed: changes where the tutor errs.
    """

    def __init__(
        self,
        solutions: Iterable[tuple[str, Sequence[Paragraph]]],
        rates: Rates = Rates(),
        seed: int = 0,
    ) -> None:
        self._lessons = dict(solutions)
        self._rates, self._seed = rates, seed

    def __call__(self, request: Request) -> str:
        """What follows the request's prefix, up to the next code block's end or to the review's end.

        Raises:
            EngineRequestError: the request is about a solution that the tutor was not given.
        """
        prompt = request.messages[-1].content
        paragraphs = self._lessons.get(prompt)
        if paragraphs is None:
            raise EngineRequestError("the tutor does not know this solution", hint="give it all solutions")
        return _Lesson(paragraphs, self._rates, f"{self._seed}:{request.sample}:{prompt}").go_on(
            request.prefix
        )


class _Lesson:
    """One solution under review; everything is decided from the key, nothing is kept between calls."""

    def __init__(self, paragraphs: Sequence[Paragraph], rates: Rates, key: str) -> None:
        self.paragraphs, self.rates, self.key = paragraphs, rates, key
        first = next((i for i, part in enumerate(paragraphs) if not part.right), len(paragraphs) - 1)
        rng = self._rng("misread")
        self.misread = rng.randrange(first + 1) if rng.random() < rates.misread else None

    def _rng(self, *place: object) -> random.Random:
        digest = hashlib.sha256(":".join([self.key, *map(str, place)]).encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))

    def go_on(self, prefix: str) -> str:
        """The text that follows `prefix`."""
        done = prefix.count("</output>")
        current = prefix.rpartition("</output>")[2]
        if "[Code Output]" in current:
            return self._after_code(done, current)
        if "\\boxed{No}" in prefix:
            return _not_twice(prefix, self._final(done - 1))
        if done >= len(self.paragraphs):
            return _not_twice(prefix, self._final(NO_ERROR))
        return _not_twice(prefix, ("\n" if done else "") + self._open(done))

    @staticmethod
    def _final(index: int) -> str:
        return f"\nThe first wrong paragraph is \\boxed{{{index + 1 if index != NO_ERROR else NO_ERROR}}}."

    def _open(self, step: int) -> str:
        """Heading, derivation and first code of a paragraph."""
        checks = self._checks(step)
        code = check_code(checks)
        if checks and self._rng("faulty", step).random() < self.rates.faulty_code:
            code = code.replace("print(", "print(total, ", 1)
        return (
            f"### Paragraph {step + 1}\n<analyze>\n{derivation(checks)}\n</analyze>\n<verify>\n"
            f"```python\n{code}{_CLOSED}"
        )

    def _checks(self, step: int) -> tuple[Check, ...]:
        """What is to be calculated, as the tutor reads it."""
        checks = self.paragraphs[step].checks
        if step != self.misread or not checks:
            return checks
        wrong = next((i for i, check in enumerate(checks) if not check.holds), None)
        if wrong is not None:
            return (*checks[:wrong], _with(checks[wrong], checks[wrong].claimed))
        other = swapped(checks[-1].tokens, self._rng("swap", step))
        return checks if other is None else (*checks[:-1], _with(checks[-1], other))

    def _after_code(self, step: int, current: str) -> str:
        """The judgement that the output asks for, or the code again if it failed."""
        outputs = _OUTPUT.findall(current)
        shown = outputs[-1] if outputs else ""
        opening = "" if current.endswith("\n") else "\n"
        checks = self._checks(step)
        if checks and "True" not in shown and "False" not in shown and current.count("```python") == 1:
            return f"{opening}The code has to be fixed.\n```python\n{check_code(checks)}{_CLOSED}"
        wrong = "False" in shown
        said = conclusion(checks, shown)
        text = f"{opening}{said}\n</verify>\n<output>\n**Judgement**: $\\boxed{{{'No' if wrong else 'Yes'}}}$\n</output>"
        if wrong or step + 1 == len(self.paragraphs):
            return text + self._final(step if wrong else NO_ERROR)
        return f"{text}\n{self._open(step + 1)}"


def derivation(checks: Sequence[Check]) -> str:
    """What the paragraph should find, from the problem's words, without results."""
    if not checks:
        return "Nothing is calculated here."
    parts = []
    for name, check in zip(NAMES, checks, strict=False):
        given = f"Given: {check.quote}.\n" if check.quote else ""
        sentence = f"{check.before}{spoken(check.tokens)}{check.after}".strip().rstrip(".")
        parts.append(f"{given}{name}: {sentence}.")
    return "\n".join(parts)


def check_code(checks: Sequence[Check]) -> str:
    """Python that calculates each value and prints it with the comparison."""
    if not checks:
        return f'print("{NOTHING}")'
    lines, values, compared = [], [], []
    for name, check in zip(NAMES, checks, strict=False):
        exact = not {"/", "."} & set("".join(check.tokens) + check.claim)
        rounded = name if exact else f"round({name}, {precision(check.claim)})"
        lines.append(f"{name} = {spoken(check.tokens)}")
        values.append(name)
        compared.append(f"{rounded} == {check.claim}")
    return "\n".join([*lines, f"print({', '.join(values + compared)})"])


def conclusion(checks: Sequence[Check], shown: str) -> str:
    """What the output says about the claims."""
    results = [word == "True" for word in shown.split() if word in ("True", "False")]
    if not checks or not results:
        return "There is no wrong number."
    wrong = next((i for i, good in enumerate(results) if not good), None)
    if wrong is None:
        return "The results agree." if len(results) > 1 else "The result agrees."
    return f"{NAMES[wrong]} is not {checks[wrong].claim}."


def spoken(tokens: Tokens) -> str:
    """An expression as analysis and code write it."""
    return "".join(f" {token} " if token in "+-" else token for token in tokens)


def _with(check: Check, tokens: Tokens) -> Check:
    return Check(
        check.quote, check.before, check.after, tokens, check.claimed, check.claim, check.value, check.key
    )


def _not_twice(prefix: str, text: str) -> str:
    """`text` without the beginning that `prefix` ends with already."""
    longest = min(len(prefix), len(text))
    return text[next((size for size in range(longest, 0, -1) if prefix.endswith(text[:size])), 0) :]
