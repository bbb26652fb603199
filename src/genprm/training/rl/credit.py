"""What a verifier's turn about one step is worth, and the advantage that this gives each of its tokens.

The reward is checked by a rule, as in DeepSeek-R1 (arXiv:2501.12948, section 2.2.2: accuracy and format), not by a model:
the turn's boxed word against the step's label. Exactly one verdict per turn is the format. Each step is rewarded by
itself, as with GRPO's process supervision (DeepSeekMath, arXiv:2402.03300, section 4.1.3), but a turn's advantage is
that of its own step: earlier verdicts are no work towards later ones.

Three things are kept apart. A wrong verdict and a malformed turn are the model's own and have rewards. A step without
a label, and a turn that an engine or sandbox fault ended, have none: they are unknown, and drop out of their group.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from genprm.config import GrpoConfig
from genprm.records import Vote, VoteStatus
from genprm.text.transcript import count_judgements

Outcome = Literal["right", "wrong", "malformed", "unlabelled", "lost"]
OUTCOMES: tuple[Outcome, ...] = ("right", "wrong", "malformed", "unlabelled", "lost")
_FAULTS = (VoteStatus.ENGINE_FAILED, VoteStatus.SANDBOX_FAILED, VoteStatus.NOT_REACHED)
_EPSILON = 1e-4
"""Added to a group's deviation, as in trl."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What a turn is worth.

    Attributes:
        outcome: `right` and `wrong` compare the verdict with the label; `malformed`: no verdict that the model came to
            by itself, or several; `unlabelled` and `lost` (to a fault) are unknown.
        value: the reward; None if it is unknown.
        reason: more about a turn that is malformed or lost.
    """

    outcome: Outcome
    value: float | None = None
    reason: str = ""


def credit(vote: Vote, label: bool | None, options: GrpoConfig) -> Credit:
    """The credit of a turn about a step with this label.

    A verdict that had to be forced, because the turn met a bound or ended without one, is none of the model's own.
    """
    if vote.status in _FAULTS:
        return Credit("lost", reason=vote.reason or vote.status.value)
    if label is None:
        return Credit("unlabelled")
    fault = format_fault(vote)
    if fault is not None:
        return Credit("malformed", options.malformed, fault)
    if vote.judgement is label:
        return Credit("right", options.right)
    return Credit("wrong", options.wrong)


def format_fault(vote: Vote) -> str | None:
    """Why a turn that no fault ended does not give exactly one verdict; None if it does."""
    if vote.judgement is None or vote.rationale is None:
        return "no verdict"
    if vote.forced:
        return "the verdict was forced"
    count = count_judgements(vote.rationale.text)
    return None if count == 1 else f"{count} verdicts"


def advantages(rewards: Sequence[float | None]) -> list[float | None]:
    """(reward - mean) / (deviation + 1e-4) over the known rewards of one group; None for the others.

    Equation 1 of DeepSeekMath's section 4.1.2, with the unbiased deviation, as in trl. A group of one known reward, or of
    equal ones, gives zeros: nothing is learned from it.
    """
    known = [reward for reward in rewards if reward is not None]
    if not known:
        return [None] * len(rewards)
    mean = statistics.fmean(known)
    scale = (statistics.stdev(known) if len(known) > 1 else 0.0) + _EPSILON
    return [None if reward is None else (reward - mean) / scale for reward in rewards]
