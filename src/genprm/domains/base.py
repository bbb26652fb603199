"""What is special about a subject, behind one protocol: everything else in genprm knows no mathematics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from genprm.records import Problem

Role = Literal["policy", "teacher", "verifier", "refine"]


@dataclass(frozen=True, slots=True)
class Extracted:
    """The final answer that a text states.

    Attributes:
        answer: the answer as it is written; None if the text states none.
        how: how it was found, for example `boxed`; `none` if there is none.
    """

    answer: str | None
    how: str = "none"


@dataclass(frozen=True, slots=True)
class Graded:
    """A verdict on one answer.

    Attributes:
        equal: whether it equals the reference; None if that is not known.
        reason: why `equal` is None (`timeout`, `worker_died`, `too_long`, `too_large`, `no_reference`,
            `prose_reference`, `unparsed_reference`, `MemoryError`, `RecursionError`), or more about a False (`no_answer`,
            `unparsed_prediction`, `prose`, `different_length` and others that begin so); else empty.
    """

    equal: bool | None
    reason: str = ""


@runtime_checkable
class Domain(Protocol):
    """A subject. One object serves a whole run; `aclose` ends what it started."""

    @property
    def name(self) -> str:
        """The subject's name in configs and keys."""
        ...

    @property
    def sandbox_tier(self) -> Literal["plain", "sympy", "numpy", "scipy"]:
        """Which packages verification code of this subject may import, unless a config says otherwise."""
        ...

    @property
    def profiles(self) -> Mapping[Role, str]:
        """Each role's default prompt profile."""
        ...

    def extract(self, text: str) -> Extracted:
        """The final answer q that a solution states."""
        ...

    async def grade(self, answer: str | None, problem: Problem) -> Graded:
        """Whether an answer equals the problem's reference q*."""
        ...

    async def grade_many(self, pairs: Sequence[tuple[str | None, Problem]]) -> list[Graded]:
        """`grade` of many answers, in order."""
        ...

    async def vote_classes(self, answers: Sequence[str | None]) -> list[str | None]:
        """The class of equal answers that each answer votes for, named by its first member; None for no answer.

        Two answers are of one class if grading one by the other finds them equal.
        """
        ...

    def split(self, text: str) -> tuple[str, ...]:
        """The steps of a solution's text, none empty."""
        ...

    async def aclose(self) -> None:
        """Release what the domain holds. Idempotent."""
        ...
