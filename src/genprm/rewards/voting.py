"""From votes to verdicts (equations 6 and 7: the mean over the paths whose vote counts), and to verifications."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from genprm.records import NO_ERROR, StepVerdict, Usage, Verification, VerifyItem, Vote, VoteStatus
from genprm.rewards.scores import score_solution

_FAULTS = {VoteStatus.ENGINE_FAILED, VoteStatus.SANDBOX_FAILED, VoteStatus.NOT_REACHED}


def tally(step: int, votes: Sequence[Vote], threshold: float = 0.5) -> StepVerdict:
    """The verdict on a step.

    Its reward is the mean of the rewards of the votes with status `ok`; the others count for nothing
    and are counted in `reason`. The judgement is reward >= threshold.
    """
    ordered = tuple(sorted(votes, key=lambda vote: vote.path))
    rewards = [v.reward for v in ordered if v.status is VoteStatus.OK and v.reward is not None]
    lost = Counter(v.status.value for v in ordered if v.status is not VoteStatus.OK)
    reason = ", ".join(f"{name}: {count}" for name, count in sorted(lost.items())) or None
    if rewards:
        reward = math.fsum(rewards) / len(rewards)
        return StepVerdict(
            step=step,
            reward=reward,
            judgement=reward >= threshold,
            status="ok",
            reason=reason,
            votes=ordered,
        )
    failed = all(v.status in _FAULTS for v in ordered)
    return StepVerdict(step=step, status="failed" if failed else "unparsed", reason=reason, votes=ordered)


def leading_vote(verdict: StepVerdict) -> Vote | None:
    """The vote whose path all others go on from if they share a history: the first that judged as the verdict says."""
    return next(
        (
            vote
            for vote in verdict.votes
            if vote.judgement is not None and vote.judgement == verdict.judgement
        ),
        None,
    )


def skipped(step: int, reason: str) -> StepVerdict:
    """The verdict on a step that nobody voted on, because the caller asked for less than all."""
    return StepVerdict(step=step, status="skipped", reason=reason)


def first_error(judgements: Sequence[bool | None]) -> int | None:
    """Index of the first False; NO_ERROR if all are True; None if an unknown one comes first."""
    for index, judgement in enumerate(judgements):
        if judgement is None:
            return None
        if not judgement:
            return index
    return NO_ERROR


def first_error_of_path(verification: Verification, path: int = 0, threshold: float = 0.5) -> int | None:
    """The first error as one path alone sees it: Pass@1 read off a verification with many votes.

    Paths are independent (own history, own interpreter), so path k is a sample of the verifier with one
    vote. None if the path lost a vote before its first error. A verification that stopped at the first
    error of all votes together may have ended before this path's own; that is None, too.
    """
    judgements: list[bool | None] = []
    for verdict in verification.verdicts:
        vote = next((v for v in verdict.votes if v.path == path), None)
        reward = vote.reward if vote is not None and vote.status is VoteStatus.OK else None
        judgements.append(None if reward is None else reward >= threshold)
    return first_error(judgements)


def verification(
    item: VerifyItem,
    verdicts: Sequence[StepVerdict],
    *,
    verifier: str,
    components: str = "",
    history: Literal["independent", "shared"] | None = None,
    usage: Usage | None = None,
    seconds: float = 0.0,
) -> Verification:
    """The verification of an item from the verdicts on all its steps, with first error and scores.

    Raises:
        ValueError: there is not exactly one verdict per step, in order.
    """
    if [verdict.step for verdict in verdicts] != list(range(len(item.steps))):
        raise ValueError(
            f"item '{item.id}' needs one verdict for each of its {len(item.steps)} steps, in order"
        )
    return Verification(
        item_id=item.id,
        problem=item.problem,
        steps=item.steps,
        verdicts=tuple(verdicts),
        problem_id=item.problem_id,
        first_error=first_error([verdict.judgement for verdict in verdicts]),
        score=score_solution([verdict.reward for verdict in verdicts]),
        verifier=verifier,
        components=components,
        history=history,
        usage=usage or Usage(),
        seconds=seconds,
    )
