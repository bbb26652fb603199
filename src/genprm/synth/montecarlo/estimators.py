"""Monte-Carlo estimates of single states (method, part 1; equation 8).

A state is a problem and the first steps of a solution. A completer continues it K times; MC is the share
of the continuations whose answer equals the reference. A continuation starts after a blank line with
the next step's marker (`genprm.text.steps.continuation_prefix`), as the policy's own text would.

A continuation that was cut by the token budget, or that states no answer, did not reach the reference:
it counts as graded and wrong. Only engine faults and answers that could not be compared are `failed`. What an engine
fault that may pass took is not made up for by the rest (`Estimate.fault`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from genprm.config.models import MonteCarloConfig
from genprm.domains import Domain
from genprm.engines.base import Engine
from genprm.errors import EngineError
from genprm.generate.examples import EXAMPLE_CHARS
from genprm.generate.policy import policy_requests, unsettling, unsettling_nothing
from genprm.records import KeptCompletion, Problem, StepScore, Usage
from genprm.text.prompts import PolicyProfile, load_profile
from genprm.text.steps import continuation_prefix
from genprm.text.transcript import truncate


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known about one state.

    Attributes:
        score: the counts.
        usage: their cost.
        texts: the first ones.
        error: the fault if all samples of a batch were lost to faults.
        passing: the retryable faults of all samples.
    """

    score: StepScore = field(default_factory=lambda: StepScore(correct=0, total=0))
    usage: Usage = field(default_factory=Usage)
    texts: tuple[str, ...] = ()
    error: EngineError | None = None
    passing: tuple[EngineError, ...] = ()

    @property
    def fault(self) -> EngineError | None:
        """The fault that keeps the counts from standing for the state.

        Besides `error` that is a retryable one if such faults took more than half of the samples, or so many that some of
        them may well have been right where no other is (`unsettling_nothing`).
        """
        if self.error is not None or not self.passing:
            return self.error
        if 2 * len(self.passing) > self.score.total + self.score.failed:
            return self.passing[0]
        return None if self.score.correct else unsettling_nothing(self.score.total, self.passing)

    def plus(self, more: Estimate, keep_completions: int) -> Estimate:
        """Both together; texts are the first one's. Of the completions the first `keep_completions` are kept."""
        score = StepScore(
            correct=self.score.correct + more.score.correct,
            total=self.score.total + more.score.total,
            failed=self.score.failed + more.score.failed,
            completions=(*self.score.completions, *more.score.completions)[:keep_completions],
        )
        return Estimate(
            score,
            self.usage + more.usage,
            self.texts or more.texts,
            self.error or more.error,
            (*self.passing, *more.passing),
        )


class Estimator(Protocol):
    """Estimates MC of one state. Returns counts, so that estimates of several sources can be added."""

    @property
    def name(self) -> str:
        """The completer, for reports."""
        ...

    async def estimate(self, problem: Problem, steps: Sequence[str], samples: range) -> Estimate:
        """Counts from the continuations with these indices of the state after `steps` (empty: the start s_1).

        A continuation depends on the problem, the steps and its index alone, so that batches of indices give what
        all of them at once would.
        """
        ...


class CompletionEstimator:
    """Estimates a state by completing it in one call of the engine per batch, which shares the prefill."""

    def __init__(
        self,
        engine: Engine,
        domain: Domain,
        options: MonteCarloConfig,
        *,
        seed: int,
        profile: PolicyProfile | None = None,
        separator: str | None = None,
    ) -> None:
        self._engine = engine
        self._domain = domain
        self._options = options
        self._seed = seed
        self._profile = profile or load_profile(options.profile or "policy", PolicyProfile)
        self._separator = separator

    @property
    def name(self) -> str:
        """The engine's name."""
        return self._engine.name

    async def estimate(self, problem: Problem, steps: Sequence[str], samples: range) -> Estimate:
        """See `Estimator`."""
        prefix = (
            continuation_prefix(steps, "auto", separator=self._separator) if steps else self._profile.prefix
        )
        requests = policy_requests(
            problem,
            samples,
            self._options.sampling,
            self._options.max_tokens,
            seed=self._seed,
            profile=self._profile,
            prefix=prefix,
        )
        completions = await self._engine.generate(requests)
        texts = [prefix + completion.text for completion in completions if completion.ok]
        pairs = [(self._domain.extract(text).answer, problem) for text in texts]
        verdicts = [graded.equal for graded in await self._domain.grade_many(pairs)]
        errors = [completion.error for completion in completions if completion.error is not None]
        kept = zip(texts[: self._options.keep_completions], verdicts, strict=False)
        score = StepScore(
            correct=verdicts.count(True),
            total=len(verdicts) - verdicts.count(None),
            failed=len(errors) + verdicts.count(None),
            completions=tuple(
                KeptCompletion(text=truncate(text, EXAMPLE_CHARS), correct=verdict)
                for text, verdict in kept
            ),
        )
        usage = sum((completion.usage for completion in completions), Usage())
        lost_to = unsettling(errors) if len(errors) == len(completions) else None
        passing = tuple(error for error in errors if error.retryable)
        return Estimate(score, usage, tuple(texts[: self._options.keep_examples]), lost_to, passing)
