"""Mathematics: announced answers, math-verify for equality, step markers; and two stricter or looser readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from genprm.domains.base import Extracted, Graded, Role
from genprm.domains.math.extract import extract, last_number
from genprm.domains.math.grader import Grader
from genprm.records import Problem
from genprm.text.steps import split_steps

_PROFILES: Mapping[Role, str] = MappingProxyType(
    {"policy": "policy", "teacher": "teacher", "verifier": "genprm", "refine": "refine"}
)


class MathDomain:
    """The domain of mathematical problems with a final answer.

    Args:
        grader: compares answers; one of its own unless given, and closed with this object either way.
    """

    def __init__(self, grader: Grader | None = None) -> None:
        self._grader = grader or Grader()

    @property
    def name(self) -> str:
        """See `Domain`."""
        return "math"

    @property
    def sandbox_tier(self) -> Literal["plain", "sympy", "numpy", "scipy"]:
        """See `Domain`: sympy and numpy."""
        return "numpy"

    @property
    def profiles(self) -> Mapping[Role, str]:
        """See `Domain`."""
        return _PROFILES

    async def __aenter__(self) -> MathDomain:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def extract(self, text: str) -> Extracted:
        """See `Domain` and `genprm.domains.math.extract`."""
        return extract(text)

    async def grade(self, answer: str | None, problem: Problem) -> Graded:
        """See `Domain`."""
        return await self._grader.equal(answer, problem.answer)

    async def grade_many(self, pairs: Sequence[tuple[str | None, Problem]]) -> list[Graded]:
        """See `Domain`; equal pairs are compared once."""
        return await self._grader.equal_many([(answer, problem.answer) for answer, problem in pairs])

    async def vote_classes(self, answers: Sequence[str | None]) -> list[str | None]:
        """See `Domain`. Verdicts are cached; an answer whose comparison gives none has a class of its own."""
        answers = list(answers)
        classes: dict[str, str] = {}
        names: list[str] = []
        for answer in answers:
            if answer is None or answer in classes:
                continue
            verdicts = await self._grader.equal_many([(answer, name) for name in names])
            equal = [name for name, verdict in zip(names, verdicts, strict=True) if verdict.equal]
            classes[answer] = equal[0] if equal else answer
            names += [] if equal else [answer]
        return [None if answer is None else classes[answer] for answer in answers]

    def split(self, text: str) -> tuple[str, ...]:
        """See `Domain`."""
        return split_steps(text)

    async def aclose(self) -> None:
        """See `Domain`."""
        await self._grader.aclose()


class AnnouncedMathDomain(MathDomain):
    """Mathematics in which an answer must be announced: a concluding sentence alone ("he has 5 left") states none."""

    @property
    def name(self) -> str:
        """See `Domain`."""
        return "math-announced"

    def extract(self, text: str) -> Extracted:
        """See `Domain`: every way of `genprm.domains.math.extract` but `conclusion`."""
        found = extract(text)
        return Extracted(None) if found.how == "conclusion" else found


class LastNumberMathDomain(MathDomain):
    """Mathematics read as evaluation harnesses read it: where no answer is announced, the last number is the answer.

    For comparison with published figures: lm-evaluation-harness ("flexible-extract"), Qwen's and others' scripts take
    the last number. It is wrong wherever a sentence goes on behind its answer ("36 hours in 4 weeks").
    """

    @property
    def name(self) -> str:
        """See `Domain`."""
        return "math-last-number"

    def extract(self, text: str) -> Extracted:
        """See `Domain`: as `genprm.domains.math.extract`, with the last number in place of a `conclusion`."""
        found = extract(text)
        if found.how not in ("conclusion", "none"):
            return found
        number = last_number(text)
        return Extracted(None) if number is None else Extracted(number, "last_number")
