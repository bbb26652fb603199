"""Monte-Carlo step rewards with dynamic K (method, part 1; equations 8 and 9).

A state is a problem and the first steps of a solution. A completer continues it K times; MC is the share
of the continuations whose answer equals the reference. A continuation starts after a blank line with
the next step's marker (`genprm.text.steps.continuation_prefix`), as the policy's own text would.

A continuation that was cut by the token budget, or that states no answer, did not reach the reference:
it counts as graded and wrong. Only engine faults and answers that could not be compared are `failed`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from genprm.aio import bounded_map, cancel_all
from genprm.config.models import MonteCarloConfig
from genprm.domains import Domain
from genprm.engines.base import Engine
from genprm.errors import EngineError
from genprm.generate.examples import EXAMPLE_CHARS, examples_of, with_few_examples
from genprm.generate.policy import lost, policy_requests, unsettling
from genprm.generate.rollout import failure_text
from genprm.records import (
    Dropped,
    KeptCompletion,
    Problem,
    Solution,
    SolutionScores,
    StageOutput,
    StepScore,
    Usage,
)
from genprm.text.prompts import PolicyProfile, load_profile
from genprm.text.steps import continuation_prefix
from genprm.text.transcript import truncate

STAGE = "montecarlo"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known about one state: counts, their cost, the first texts, and the fault if all was lost to faults."""

    score: StepScore
    usage: Usage
    texts: tuple[str, ...] = ()
    error: EngineError | None = None


class Estimator(Protocol):
    """Estimates MC of one state. Returns counts, so that estimates of several sources can be added."""

    @property
    def name(self) -> str:
        """The completer, for reports."""
        ...

    async def estimate(self, problem: Problem, steps: Sequence[str], samples: int) -> Estimate:
        """Counts from `samples` continuations of the state after `steps` (empty: the start s_1)."""
        ...


class CompletionEstimator:
    """Estimates a state by completing it K times in one call of the engine, which shares the prefill."""

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

    async def estimate(self, problem: Problem, steps: Sequence[str], samples: int) -> Estimate:
        """See `Estimator`."""
        prefix = (
            continuation_prefix(steps, "auto", separator=self._separator) if steps else self._profile.prefix
        )
        requests = policy_requests(
            problem,
            range(samples),
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
        return Estimate(score, usage, tuple(texts[: self._options.keep_examples]), lost_to)


async def estimate(
    items: Sequence[tuple[Problem, Sequence[Solution]]],
    engine: Engine,
    domain: Domain,
    options: MonteCarloConfig,
    *,
    seed: int,
    profile: PolicyProfile | None = None,
    concurrency: int = 256,
    separator: str | None = None,
) -> StageOutput[SolutionScores]:
    """MC of every step of every solution.

    MC(s_1) is estimated once per problem from `options.k_start` samples and decides K for its other
    states (equation 9). If it is 0 the problem's solutions are dropped (`start_zero`), and also if it is
    unknown (`start_unknown`). The last step's MC is its own answer's. After the first MC of 0,
    later steps are 0 without being sampled. States that solutions of a problem share are estimated
    once; the first solution in order that has them carries their cost.

    If the engine failed on all samples of a state, its solution is dropped (`engine_failed`) unless the fault is
    retryable or none of the problem's solutions is settled; in these cases the problem is lost.

    Args:
        seed: an estimate depends on it, the problem's id and the state's text alone.
        concurrency: engine requests in flight; one state's K are never divided.
        separator: the text between steps; a blank line unless given.
    """
    estimator = CompletionEstimator(
        engine, domain, options, seed=seed, profile=profile, separator=separator
    )
    return await estimate_with(items, estimator, options, concurrency=concurrency)


async def estimate_with(
    items: Sequence[tuple[Problem, Sequence[Solution]]],
    estimator: Estimator,
    options: MonteCarloConfig,
    *,
    concurrency: int = 256,
) -> StageOutput[SolutionScores]:
    """`estimate`, with any estimator of single states."""
    gate = _Gate(concurrency)

    async def work(item: tuple[Problem, Sequence[Solution]]) -> list[_Outcome]:
        return await _ProblemScorer(item[0], item[1], estimator, options, gate).run()

    # The gate alone bounds the requests; this bound only keeps the number of waiting tasks small.
    found = await bounded_map(work, items, concurrency)
    faults = [unsettling([outcome.error for outcome in outcomes]) for outcomes in found]
    settled = [
        outcome
        for outcomes, fault in zip(found, faults, strict=True)
        if fault is None
        for outcome in outcomes
    ]
    return StageOutput(
        tuple(outcome.scores for outcome in settled if outcome.scores is not None),
        with_few_examples(
            [outcome.dropped for outcome in settled if outcome.dropped is not None], options.keep_examples
        ),
        tuple(
            lost(problem.id, fault, sum((outcome.usage for outcome in outcomes), Usage()))
            for (problem, _), outcomes, fault in zip(items, found, faults, strict=True)
            if fault is not None
        ),
    )


def choose_k(start: float, options: MonteCarloConfig) -> int:
    """K by the completer's Pass@1 (equation 9)."""
    if start < options.hard_below:
        return options.k_hard
    return options.k_medium if start < options.easy_from else options.k_easy


@dataclass(frozen=True, slots=True)
class _Outcome:
    scores: SolutionScores | None = None
    dropped: Dropped | None = None
    error: EngineError | None = None

    @property
    def usage(self) -> Usage:
        """What it cost."""
        row = self.scores or self.dropped
        return row.usage if row is not None else Usage()


class _ProblemScorer:
    """Scores the solutions of one problem, which share its start and any common first steps."""

    def __init__(
        self,
        problem: Problem,
        solutions: Sequence[Solution],
        estimator: Estimator,
        options: MonteCarloConfig,
        gate: _Gate,
    ) -> None:
        self._problem = problem
        self._solutions = solutions
        self._estimator = estimator
        self._options = options
        self._gate = gate
        self._states: dict[tuple[str, ...], asyncio.Task[Estimate]] = {}
        # Which solution carries a state's cost must not depend on which task comes first.
        self._carrier: dict[tuple[str, ...], int] = {}
        for index, solution in enumerate(solutions):
            for length in range(len(solution.steps)):
                self._carrier.setdefault(solution.steps[:length], index)

    async def run(self) -> list[_Outcome]:
        try:
            return await self._run() if self._solutions else []
        finally:
            await cancel_all(self._states.values())

    async def _run(self) -> list[_Outcome]:
        start = await self._state((), self._options.k_start)
        value = start.score.value
        if start.error is not None:
            return self._all_dropped(start, "engine_failed", failure_text(start.error))
        if not value:
            reason = "start_unknown" if value is None else "start_zero"
            return self._all_dropped(
                start, reason, f"{start.score.failed} of {self._options.k_start} failed"
            )
        samples = choose_k(value, self._options)
        jobs = [
            asyncio.ensure_future(self._score(index, solution, start, samples))
            for index, solution in enumerate(self._solutions)
        ]
        try:
            return list(await asyncio.gather(*jobs))
        finally:
            await cancel_all(jobs)

    def _all_dropped(self, start: Estimate, reason: str, detail: str) -> list[_Outcome]:
        outcomes = []
        texts = [(f"{self._problem.id}/start/{number}", text) for number, text in enumerate(start.texts)]
        for index, solution in enumerate(self._solutions):
            usage = start.usage if index == 0 else Usage()
            dropped = _drop(solution, reason, detail, usage)
            if index == 0:
                kept = examples_of(texts, self._options.keep_examples)
                dropped = dropped.model_copy(update={"examples": kept})
            outcomes.append(_Outcome(None, dropped, start.error))
        return outcomes

    async def _score(self, index: int, solution: Solution, start: Estimate, samples: int) -> _Outcome:
        """One solution, step after step, since an MC of 0 spares all later ones."""
        usage = start.usage if index == 0 else Usage()
        scores: list[StepScore] = []
        for length in range(1, len(solution.steps) + 1):
            if scores and scores[-1].value == 0:
                scores.append(StepScore(correct=0, total=0, origin="zero_rule"))
            elif length == len(solution.steps):
                scores.append(_own_answer(solution))
            else:
                steps = solution.steps[:length]
                found = await self._state(steps, samples)
                if self._carrier[steps] == index:
                    usage += found.usage
                if found.error is not None:
                    dropped = _drop(solution, "engine_failed", failure_text(found.error), usage)
                    return _Outcome(None, dropped, found.error)
                scores.append(found.score)
        return _Outcome(
            SolutionScores(
                solution_id=solution.id,
                problem_id=self._problem.id,
                start=start.score,
                steps=tuple(scores),
                completer=self._estimator.name,
                usage=usage,
            )
        )

    async def _state(self, steps: tuple[str, ...], samples: int) -> Estimate:
        if steps not in self._states:
            self._states[steps] = asyncio.ensure_future(self._ask(steps, samples))
        return await asyncio.shield(self._states[steps])

    async def _ask(self, steps: tuple[str, ...], samples: int) -> Estimate:
        async with self._gate.hold(samples):
            return await self._estimator.estimate(self._problem, steps, samples)


def _own_answer(solution: Solution) -> StepScore:
    """MC of the last step: nothing is left to complete."""
    if solution.correct is None:
        return StepScore(correct=0, total=0, failed=1, origin="answer")
    return StepScore(correct=int(solution.correct), total=1, origin="answer")


def _drop(solution: Solution, reason: str, detail: str, usage: Usage) -> Dropped:
    return Dropped(
        item_id=solution.id,
        problem_id=solution.problem_id,
        stage=STAGE,
        reason=reason,
        detail=detail,
        usage=usage,
    )


class _Gate:
    """Bounds the requests in flight over states that need different numbers of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._free = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def hold(self, count: int) -> AsyncIterator[None]:
        """A context in which `count` requests are in flight; more than the limit run alone."""
        count = min(count, self._limit)
        async with self._free:
            await self._free.wait_for(lambda: self._held + count <= self._limit)
            self._held += count
        try:
            yield
        finally:
            async with self._free:
                self._held -= count
                self._free.notify_all()
