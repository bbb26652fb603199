"""Refinement turns (method, policy test-time scaling)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from genprm.records.base import Part, Record, Usage
from genprm.records.solutions import Solution
from genprm.records.verdicts import Verification


class Critique(Part):
    """What the critic tells the policy: the first wrong step, quoted, with the analysis of it."""

    step: int
    paragraph: str
    analysis: str
    reward: float | None = None


class RefinementTurn(Part):
    """One solution of a refinement, and what was said about it.

    Attributes:
        turn: 0 for the solution that the refinement started from.
        solution: the solution that stands after this turn.
        changed: whether this turn wrote it; False where an earlier solution was kept.
        reason: why it was kept: `no_flag` (the critic found nothing), `truncated`, `no_steps`,
            `no_critique` (verification failed) or an engine's failure (`EngineTimeout: ...`).
        retryable: whether that failure may pass.
        verification: the critic's view of `solution`; None for self-refinement and after the last turn.
        critique: what the policy is told about `solution` next; None where it is told nothing.
        usage: what writing this turn's solution cost; the verification carries its own.
    """

    turn: int = Field(ge=0)
    solution: Solution
    changed: bool = False
    reason: str | None = None
    retryable: bool = False
    verification: Verification | None = None
    critique: Critique | None = None
    usage: Usage = Usage()


class RefinementTrace(Record):
    """A solution's way through the refinement turns (method, policy test-time scaling).

    Attributes:
        turns: turn 0 to turn T, always T + 1 of them: a turn that has nothing to do repeats the
            solution before it.
    """

    problem_id: str
    solution_id: str
    mode: Literal["dialogue", "restart", "self"]
    turns: tuple[RefinementTurn, ...] = Field(min_length=1)

    @property
    def usage(self) -> Usage:
        """Cost of all turns, verifications included."""
        total = Usage()
        for turn in self.turns:
            total += turn.usage + (turn.verification.usage if turn.verification else Usage())
        return total
