"""What a caller of the service gets, and why a number is missing from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from genprm.records import StepVerdict, Usage, Verification, VerifyItem, VoteStatus
from genprm.rewards.voting import skipped, verification

DEADLINE: Final = "deadline"
"""The reason of steps that had no verdict when the caller's deadline passed."""

UnknownKind = Literal[
    "engine_failed",
    "sandbox_failed",
    "deadline",
    "unparsed",
    "skipped",
    "empty_text",
    "unreadable",
    "no_answer",
    "overloaded",
]
ScoreName = Literal["last", "mean", "min", "prod"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why a solution has no score.

    Attributes:
        kind: of the first step without a reward, or of the request itself.
        detail: in words.
        transient: whether the same request may be answered later.
    """

    kind: UnknownKind
    detail: str
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one call.

    Attributes:
        verification: one verdict per step; steps that were not judged before the deadline are `skipped` with the
            reason `deadline`.
        shared: `no` if this call began the verification, `joined` if another one had, `recent` if it was finished
            when this call came.
        policy: the load policy that chose how it was verified; None if none did.
    """

    verification: Verification
    shared: Literal["no", "joined", "recent"] = "no"
    policy: str | None = None

    @property
    def unknown(self) -> Unknown | None:
        """Why the solution has no score; None if every step has a reward."""
        missing = [verdict for verdict in self.verification.verdicts if verdict.reward is None]
        return why_missing(missing[0]) if missing else None


def why_missing(verdict: StepVerdict) -> Unknown:
    """Why a step has no reward."""
    number = verdict.step + 1
    transient = any(vote.retryable for vote in verdict.votes)
    detail = f"step {number}: {verdict.reason or 'no reason is known'}"
    if verdict.status == "skipped":
        late = verdict.reason == DEADLINE
        return Unknown(DEADLINE if late else "skipped", detail, transient=late)
    if verdict.status == "unparsed":
        return Unknown("unparsed", detail, transient)
    stated = next((vote.reason for vote in verdict.votes if vote.reason), None)
    detail = f"step {number}: {stated}" if stated else detail
    boxed = any(vote.status is VoteStatus.SANDBOX_FAILED for vote in verdict.votes)
    return Unknown("sandbox_failed" if boxed else "engine_failed", detail, transient)


def until_now(
    item: VerifyItem, verdicts: Sequence[StepVerdict], verifier: str, seconds: float
) -> Verification:
    """The verdicts so far and what they cost; the other steps are `skipped` with the reason `deadline`."""
    rest = [skipped(step, DEADLINE) for step in range(len(verdicts), len(item.steps))]
    usage = Usage.total(vote.usage for verdict in verdicts for vote in verdict.votes)
    return verification(item, [*verdicts, *rest], verifier=verifier, usage=usage, seconds=seconds)
