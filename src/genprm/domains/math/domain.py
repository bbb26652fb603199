"""Mathematics: boxed answers, math-verify for equality, step markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from genprm.domains.base import Extracted, Graded, Role
from genprm.domains.math.extract import extract
from genprm.domains.math.grader import Grader
from genprm.domains.math.normal import canonical
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
        """See `Domain`."""
        return extract(text)

    async def grade(self, answer: str | None, problem: Problem) -> Graded:
        """See `Domain`."""
        return await self._grader.equal(answer, problem.answer)

    async def grade_many(self, pairs: Sequence[tuple[str | None, Problem]]) -> list[Graded]:
        """See `Domain`; equal pairs are compared once."""
        return await self._grader.equal_many([(answer, problem.answer) for answer, problem in pairs])

    def vote_class(self, answer: str) -> str:
        """See `Domain`: the canonical form."""
        return canonical(answer)

    def split(self, text: str) -> tuple[str, ...]:
        """See `Domain`."""
        return split_steps(text)

    async def aclose(self) -> None:
        """See `Domain`."""
        await self._grader.aclose()
