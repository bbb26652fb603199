"""The typed records that stages exchange. Stages never import each other: they meet here and in `store`.

Conventions, everywhere in genprm:

- step indices are 0-based; a *first error* is the 0-based index of the first wrong step, `NO_ERROR`
  (-1) where every step is right, and `None` where it is unknown;
- unknown is `None` next to a reason, never 0, 0.5 or False;
- Monte-Carlo estimates store counts, not ratios.

Every record is immutable, carries `schema_version`, and rejects unknown fields, so that a file
written by another version fails loudly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1
NO_ERROR = -1

RowT = TypeVar("RowT", bound=BaseModel)


class Record(BaseModel):
    """Base of all records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION


class Part(BaseModel):
    """A value inside a record; versioned by the record that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Usage(Part):
    """What something cost. Sums with `+`.

    Attributes:
        requests: engine calls.
        prompt_tokens: tokens sent, cached ones included.
        cached_tokens: those of them that the engine had in its prefix cache.
        completion_tokens: tokens generated.
        engine_seconds: time spent waiting for the engine, summed over requests (not wall time).
        code_seconds: time spent executing code, summed over executions (not wall time).
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    code_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage.model_construct(  # sums of valid numbers are valid
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            engine_seconds=self.engine_seconds + other.engine_seconds,
            code_seconds=self.code_seconds + other.code_seconds,
        )


class Problem(Record):
    """A problem x with its reference answer q* (None where there is none)."""

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    answer: str | None = None
    source: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)


class Solution(Record):
    """A solution a_1..a_T that a policy wrote.

    Attributes:
        steps: the T paragraphs, as the verifier will see them.
        answer: the final answer q extracted from the text; None where there is none.
        correct: whether q equals q*; None where it could not be graded (`ungraded_reason` says why).
        invalid: what makes it unfit for training, if anything: `unfinished` (cut by the token budget),
            `too_few_steps`, or `no_answer`. An evaluation counts it all the same.
        policy: the engine that wrote it.
        sample: the index of the sample among those drawn for the problem.
    """

    id: str = Field(min_length=1)
    problem_id: str
    steps: tuple[str, ...] = Field(min_length=1)
    answer: str | None = None
    correct: bool | None = None
    ungraded_reason: str | None = None
    invalid: Literal["unfinished", "too_few_steps", "no_answer"] | None = None
    policy: str = ""
    sample: int = 0
    usage: Usage = Usage()


class Dropped(Record):
    """What a stage did not pass on, with the reason that the reports count.

    Attributes:
        item_id: the item that the stage was given (a problem's or a solution's id).
        count: how many things the row stands for: the item itself, or so many samples drawn for it,
            where `reason` starts with `sample_`.
        usage: what they cost; what a stage kept carries its own cost.
    """

    item_id: str
    stage: str
    reason: str
    detail: str = ""
    count: int = Field(default=1, ge=1)
    usage: Usage = Usage()


class StepScore(Part):
    """A Monte-Carlo estimate as counts: MC = correct / total (equation 8).

    Attributes:
        correct: completions whose answer equals q*.
        total: completions that were graded.
        failed: completions lost to engine faults or grading faults; in neither count above.
        origin: `sampled` from completions, `answer` for the last step (its own answer decides), or
            `zero_rule` after a step with MC = 0 (not sampled, MC is 0).
    """

    correct: int = Field(ge=0)
    total: int = Field(ge=0)
    failed: int = Field(default=0, ge=0)
    origin: Literal["sampled", "answer", "zero_rule"] = "sampled"

    @property
    def value(self) -> float | None:
        """MC as a ratio in [0, 1], or None where nothing could be graded."""
        if self.origin == "zero_rule":
            return 0.0
        return self.correct / self.total if self.total else None


class SolutionScores(Record):
    """MC estimates of one solution.

    Attributes:
        start: MC(s_1), the completer's own Pass@1 on the problem (equation 9).
        steps: MC(s_t, a_t) for each of the T steps.
    """

    solution_id: str
    problem_id: str
    start: StepScore
    steps: tuple[StepScore, ...]
    completer: str = ""
    usage: Usage = Usage()


class StepLabel(Part):
    """A step's label r_t (equation 11).

    Attributes:
        label: True for progress, False for none; None where an estimate is missing.
        progress: the quantity that was compared with the threshold (P_t for `ratio`).
        reason: why `label` is None.
    """

    label: bool | None
    progress: float | None = None
    reason: str | None = None


class SolutionLabels(Record):
    """Labels of one solution by one method."""

    solution_id: str
    problem_id: str
    method: Literal["hard", "difference", "ratio"]
    threshold: float
    labels: tuple[StepLabel, ...]

    @property
    def first_error(self) -> int | None:
        """Index of the first step labelled False, NO_ERROR, or None where an earlier label is unknown."""
        for index, step in enumerate(self.labels):
            if step.label is None:
                return None
            if not step.label:
                return index
        return NO_ERROR


class CodeStatus(StrEnum):
    """How an executed snippet ended. Mirrors `genprm.sandbox.base.Status`, plus `NOT_RUN`."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    OUTPUT_LIMIT = "output_limit"
    DIED = "died"
    NOT_RUN = "not_run"


class CodeRound(Part):
    """One generate -> execute round.

    Attributes:
        code: the Python that the model wrote.
        output: the text shown to the model after `[Code Output]`; None where nothing was executed.
        status: how the execution ended.
        seconds: wall time of the execution.
    """

    code: str
    output: str | None = None
    status: CodeStatus = CodeStatus.NOT_RUN
    seconds: float = 0.0


class StepRationale(Part):
    """What a teacher or a verifier wrote about one step.

    Attributes:
        text: the complete assistant text, tags and executed output included.
        analysis: the inside of `<analyze>`.
        rounds: the code rounds of `<verify>`, in order.
        judgement: the boxed Yes / No; None where there is none.
    """

    text: str
    analysis: str = ""
    rounds: tuple[CodeRound, ...] = ()
    judgement: bool | None = None


class Rationale(Record):
    """A teacher's rationale for one solution (method, part 3).

    Attributes:
        steps: one entry for each step that the teacher judged, in order.
        first_error: the teacher's own final index (see the module's conventions).
        status: `ok`, or what kept the rationale from being complete.
        teacher: the engine's name; a scripted tutor says so in its name.
    """

    solution_id: str
    problem_id: str
    steps: tuple[StepRationale, ...] = ()
    first_error: int | None = None
    status: Literal["ok", "no_index", "truncated", "engine_failed", "sandbox_failed"] = "ok"
    reason: str | None = None
    teacher: str = ""
    sample: int = 0
    usage: Usage = Usage()


class Consensus(Record):
    """A solution that Monte-Carlo labels and a teacher's rationale agree on (method, part 4).

    Attributes:
        first_error: the index that both give, or NO_ERROR.
        rationale_sample: `Rationale.sample` of the rationale that agrees.
    """

    solution_id: str
    problem_id: str
    first_error: int = Field(ge=NO_ERROR)
    rationale_sample: int = 0


class ChatMessage(Part):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class TrainingSample(Record):
    """A multi-turn chat on which a verifier is trained (method, part 4).

    Attributes:
        conversations: system, then user and assistant turns in alternation.
        form: `rationale` for GenPRM, `direct` for the Yes / No baseline.
        components: which parts of a rationale the assistant turns contain.
    """

    id: str
    solution_id: str
    problem_id: str
    conversations: tuple[ChatMessage, ...]
    form: Literal["rationale", "direct"] = "rationale"
    components: str = "cot+code+execution"


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
        reason: why the vote counts for nothing, where `status` is not `ok`.
        forced: whether the judgement was forced after a degradation (bounds on rounds or tokens).
        bound: `exact` where both words' probabilities were read; `other_outside_top_k` where one
            word was outside the engine's top-k and the reward is a bound, taken as the other's.
    """

    path: int = 0
    status: VoteStatus = VoteStatus.OK
    reason: str | None = None
    reward: float | None = None
    judgement: bool | None = None
    forced: bool = False
    bound: Literal["exact", "other_outside_top_k"] = "exact"
    rationale: StepRationale | None = None
    usage: Usage = Usage()


class StepVerdict(Part):
    """The verdict on one step: exactly one exists for every step, whatever the model did.

    Attributes:
        reward: mean of the counted votes' rewards (equations 6, 7); None where no vote counts.
        judgement: reward >= threshold; None where reward is None.
        status: `ok`; `unparsed` where votes exist but none counts; `failed` where engine or sandbox
            failed on every path; `skipped` where an earlier first error or the token budget ended the
            verification (`reason` says which).
    """

    step: int
    reward: float | None = None
    judgement: bool | None = None
    status: Literal["ok", "unparsed", "failed", "skipped"] = "ok"
    reason: str | None = None
    votes: tuple[Vote, ...] = ()


class SolutionScore(Part):
    """A solution's score from its step rewards; every field is None where a step has no reward."""

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
    """

    id: str = Field(min_length=1)
    problem: str = Field(min_length=1)
    steps: tuple[str, ...] = Field(min_length=1)


class Verification(Record):
    """The verification of one solution.

    Attributes:
        first_error: index of the first step judged wrong, NO_ERROR, or None where a verdict that is
            needed to tell is missing.
        usage: of all votes, and of those that adaptive voting took on earlier steps only to let a path
            catch up.
    """

    item_id: str
    problem: str
    steps: tuple[str, ...]
    verdicts: tuple[StepVerdict, ...]
    first_error: int | None = None
    score: SolutionScore = SolutionScore()
    verifier: str = ""
    components: str = "cot+code+execution"
    usage: Usage = Usage()
    seconds: float = 0.0


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
            `no_critique` (verification failed) or an engine's failure.
        verification: the critic's view of `solution`; None for self-refinement and after the last turn.
        critique: what the policy is told about `solution` next; None where it is told nothing.
        usage: what writing this turn's solution cost; the verification carries its own.
    """

    turn: int = Field(ge=0)
    solution: Solution
    changed: bool = False
    reason: str | None = None
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


@dataclass(frozen=True, slots=True)
class StageOutput(Generic[RowT]):
    """What a stage made of a batch of items: rows for the next stage, and every row it dropped.

    Items lost to an engine or sandbox fault that may pass (`retryable`) do not belong here: a stage
    raises for them where nothing of the batch could be done, so that a later run tries again.
    """

    rows: tuple[RowT, ...]
    dropped: tuple[Dropped, ...] = ()
