"""Votes, verdicts and verifications (method, parts 5 and 6)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from genprm.records.base import Part, Record, Usage
from genprm.records.rationales import StepRationale

StepRewardValue = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A step reward. What is not a number in [0, 1] is no reward, so it can never enter a mean."""


class VoteStatus(StrEnum):
    """How one verification path ended on one step."""

    OK = "ok"
    NO_JUDGEMENT = "no_judgement"
    NO_LOGPROBS = "no_logprobs"
    ENGINE_FAILED = "engine_failed"
    SANDBOX_FAILED = "sandbox_failed"
    NOT_REACHED = "not_reached"


class Vote(Part):
    """One verification path's view of one step.

    Attributes:
        reward: p(Yes) / (p(Yes) + p(No)) at the judgement token (equations 4, 5), in [0, 1]; None
            unless `status` is `ok`.
        judgement: the word that the model wrote: True for Yes.
        reason: why the vote counts for nothing, if `status` is not `ok`.
        retryable: whether the fault that lost the vote may pass, so that a later try may get one. A vote
            that was not reached has this from the fault that lost its path.
        forced: whether the judgement was forced after a degradation (bounds on rounds or tokens).
        bound: `exact` if both words' probabilities were read; `other_outside_top_k` if one word was outside
            the engine's top-k and the reward is a bound, taken as the other's.
    """

    path: int = 0
    status: VoteStatus = VoteStatus.OK
    reason: str | None = None
    retryable: bool = False
    reward: StepRewardValue | None = None
    judgement: bool | None = None
    forced: bool = False
    bound: Literal["exact", "other_outside_top_k"] = "exact"
    rationale: StepRationale | None = None
    usage: Usage = Usage()


class StepVerdict(Part):
    """The verdict on one step: exactly one exists for every step, whatever the model did.

    Attributes:
        reward: mean of the counted votes' rewards (equations 6, 7); None if no vote counts.
        judgement: reward >= threshold; None if the reward is None.
        status: `ok`; `unparsed` if the judges answered but no reward could be read; `failed` if engine or
            sandbox failed on every path; `skipped` if an earlier first error, the token budget or a caller's
            deadline ended the verification (`reason` says which).
        reason: why there is no reward, or which votes did not count.
    """

    step: int
    reward: StepRewardValue | None = None
    judgement: bool | None = None
    status: Literal["ok", "unparsed", "failed", "skipped"] = "ok"
    reason: str | None = None
    votes: tuple[Vote, ...] = ()


class SolutionScore(Part):
    """A solution's score from its step rewards; every field is None if a step has no reward."""

    last: float | None = None
    mean: float | None = None
    min: float | None = None
    prod: float | None = None


class VerifyItem(Record):
    """A solution to verify: what a verifier is given.

    Attributes:
        id: names the item in results and, with the seed, decides the verifier's sampling.
        problem: the problem's text.
        steps: the paragraphs, at least one.
        problem_id: the problem's id, copied to the verification; decides nothing.
    """

    id: str = Field(min_length=1)
    problem: str = Field(min_length=1)
    steps: tuple[str, ...] = Field(min_length=1)
    problem_id: str = ""


class Verification(Record):
    """The verification of one solution.

    Attributes:
        item_id, problem, steps, problem_id: as in the item.
        verdicts: exactly one per step, in order.
        first_error: index of the first step judged wrong, NO_ERROR, or None if a verdict that it depends on
            is missing.
        verifier: the judge's name.
        components: what a generative verifier wrote; empty for other rewards.
        history: `shared` if after every step all paths went on from one path's turns (`verify.history`); None if it is
            not known, as of rows that an earlier version wrote.
        usage: of all votes, and of those that adaptive voting took on earlier steps only to let a path
            catch up.
        seconds: from the item's start to its last verdict.
    """

    item_id: str
    problem: str
    steps: tuple[str, ...]
    verdicts: tuple[StepVerdict, ...]
    problem_id: str = ""
    first_error: int | None = None
    score: SolutionScore = SolutionScore()
    verifier: str = ""
    components: str = "cot+code+execution"
    history: Literal["independent", "shared"] | None = None
    usage: Usage = Usage()
    seconds: float = 0.0
