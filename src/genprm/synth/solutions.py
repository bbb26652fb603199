"""Solution generation with step forcing, until a problem has enough right and wrong paths (method, part 1).

Every sample that is drawn is accounted for. Kept ones become rows; the others are counted in
`Dropped` rows of their problem, one per reason:

- `sample_unfinished`, `sample_too_few_steps`, `sample_no_answer`, `sample_empty`: invalid;
- `sample_ungraded`: whether the answer is right is not known; `sample_engine_failed`;
- `sample_duplicate`: valid, but its steps are those of an earlier sample; another one is drawn in its place;
- `sample_surplus`: valid, but the problem already has enough of its class;
- `sample_problem_dropped`: valid, but the problem was dropped.

A problem without kept solutions has one more row: `easy` (no wrong path), `hard` (no right path),
`no_valid_samples` or `no_reference`. A problem whose whole last batch was lost to the engine is not settled at
all: it is in `StageOutput.lost`. So is one that lacks a class while faults that may pass took one in twenty of its
samples or more, which may well have been of that class.

What the policy wrote instead is not lost: of each reason, the first samples in a batch of problems keep their texts
(`Dropped.examples`, `options.keep_examples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from genprm.aio import bounded_map
from genprm.config.models import SolutionsConfig
from genprm.domains import Domain
from genprm.engines.base import Completion, Engine
from genprm.errors import EngineError
from genprm.generate.examples import examples_of, with_few_examples
from genprm.generate.policy import lost, policy_requests, unsettling, unsettling_most, unsettling_nothing
from genprm.records import Dropped, Lost, Problem, Solution, StageOutput, Usage
from genprm.text.prompts import PolicyProfile, load_profile

STAGE = "solutions"
FLAWS = ("engine_failed", "empty", "unfinished", "too_few_steps", "no_answer", "ungraded", "duplicate")
"""Why a sample is not valid, in the order in which they are counted."""


async def generate_solutions(
    problems: Sequence[Problem],
    engine: Engine,
    domain: Domain,
    options: SolutionsConfig,
    *,
    seed: int,
    profile: PolicyProfile | None = None,
    concurrency: int = 256,
) -> StageOutput[Solution]:
    """Right and wrong solutions for every problem.

    Draws `options.batch` samples at a time until `options.per_class` right and as many wrong ones are
    there, or `options.max_samples` are drawn, and keeps the first ones of each class. With
    `options.duplicates: drop` a solution whose steps were sampled before counts for nothing, so that others are
    drawn. With `options.require_both` a problem that lacks a class is dropped.

    Args:
        seed: a sample depends on it, the problem's id and the sample's index alone.
        profile: the policy's prompt profile, in place of `options.profile`.
        concurrency: engine requests in flight.
    """
    drawer = _Drawer(engine, domain, options, seed=seed, profile=profile)

    async def work(problem: Problem) -> _Outcome:
        return await _solve(problem, drawer, options)

    outcomes = await bounded_map(work, problems, max(1, concurrency // options.batch))
    return _collect(outcomes, options.keep_examples)


async def sample_solutions(
    problems: Sequence[Problem],
    engine: Engine,
    domain: Domain,
    n: int,
    options: SolutionsConfig,
    *,
    seed: int,
    profile: PolicyProfile | None = None,
    concurrency: int = 256,
) -> StageOutput[Solution]:
    """`n` samples of every problem, in order, whatever they are worth: for evaluation and Best-of-N.

    Unusable ones are kept with `Solution.invalid`; without an answer they are not correct. Samples
    that have no text at all are dropped (`sample_engine_failed`, `sample_empty`); a problem is lost if the
    engine failed on all of its samples, or with retryable faults on more than half of them.

    Args:
        n: samples per problem, at least 1.
        seed: a sample depends on it, the problem's id and the sample's index alone.
        profile: the policy's prompt profile, in place of `options.profile`.
        concurrency: engine requests in flight.

    Raises:
        ValueError: `n` is less than 1.
    """
    if n < 1:
        raise ValueError(f"at least one sample per problem is needed, not {n}")
    drawer = _Drawer(engine, domain, options, seed=seed, profile=profile)

    async def work(problem: Problem) -> _Outcome:
        samples = await drawer.draw(problem, range(n))
        outcome = _Outcome(options.keep_examples)
        error = unsettling_most([sample.error for sample in samples])
        if error is not None:
            outcome.lose(problem, error, samples)
            return outcome
        outcome.kept = tuple(sample.solution for sample in samples if sample.solution is not None)
        for reason in ("engine_failed", "empty"):
            outcome.drop_samples(problem, reason, [sample for sample in samples if sample.flaw == reason])
        return outcome

    return _collect(await bounded_map(work, problems, max(1, concurrency // n)), options.keep_examples)


@dataclass(frozen=True, slots=True)
class _Sample:
    """One sample: a solution, or why there is none."""

    index: int
    usage: Usage
    text: str = ""
    solution: Solution | None = None
    error: EngineError | None = None
    duplicate: bool = False

    @property
    def flaw(self) -> str | None:
        """What the sample is counted as if it is not valid; None for a valid one."""
        if self.error is not None:
            return "engine_failed"
        if self.solution is None:
            return "empty"
        if self.solution.invalid or self.solution.correct is None:
            return self.solution.invalid or "ungraded"
        return "duplicate" if self.duplicate else None

    @property
    def detail(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error.message}"
        return (self.solution.ungraded_reason or "") if self.solution else ""


def _lost_to(samples: Sequence[_Sample]) -> EngineError | None:
    """The engine's error if it failed on all of these samples, a retryable one first."""
    errors = [sample.error for sample in samples if sample.error is not None]
    return unsettling(errors) if len(errors) == len(samples) else None


class _Drawer:
    """Draws samples from a policy and grades them."""

    def __init__(
        self,
        engine: Engine,
        domain: Domain,
        options: SolutionsConfig,
        *,
        seed: int,
        profile: PolicyProfile | None,
    ) -> None:
        self._engine = engine
        self._domain = domain
        self._options = options
        self._seed = seed
        self._profile = profile or load_profile(options.profile, PolicyProfile)

    async def draw(self, problem: Problem, indices: Sequence[int]) -> list[_Sample]:
        """The samples with these indices, in one call of the engine, so that they share their prefill."""
        options = self._options
        requests = policy_requests(
            problem, indices, options.sampling, options.max_tokens, seed=self._seed, profile=self._profile
        )
        completions = await self._engine.generate(requests)
        texts = [self._profile.prefix + done.text if done.ok else "" for done in completions]
        answers = [self._domain.extract(text) for text in texts]
        graded = await self._domain.grade_many([(found.answer, problem) for found in answers])
        samples = []
        for index, done, text, found, verdict in zip(
            indices, completions, texts, answers, graded, strict=True
        ):
            steps = self._domain.split(text) if done.text.strip() else ()
            solution = None
            if steps:
                solution = Solution(
                    id=f"{problem.id}/{index}",
                    problem_id=problem.id,
                    steps=steps,
                    answer=found.answer,
                    answer_how=found.how,
                    correct=verdict.equal,
                    ungraded_reason=verdict.reason if verdict.equal is None else None,
                    invalid=self._invalid(done, len(steps), found.answer),
                    policy=self._engine.name,
                    sample=index,
                    usage=done.usage,
                )
            written = text if done.text.strip() else ""
            samples.append(_Sample(index, done.usage, written, solution, done.error))
        return samples

    def _invalid(
        self, completion: Completion, steps: int, answer: str | None
    ) -> Literal["unfinished", "too_few_steps", "no_answer"] | None:
        if completion.finish_reason == "length":
            return "unfinished"
        if steps < self._options.min_steps:
            return "too_few_steps"
        return "no_answer" if answer is None else None


class _Outcome:
    """What one problem came to."""

    def __init__(self, keep_examples: int) -> None:
        self._keep_examples = keep_examples
        self.kept: tuple[Solution, ...] = ()
        self.dropped: list[Dropped] = []
        self.lost: Lost | None = None

    def lose(self, problem: Problem, error: EngineError, samples: Sequence[_Sample]) -> None:
        usage = sum((sample.usage for sample in samples), Usage())
        self.lost = lost(problem.id, error, usage)

    def drop_problem(self, problem: Problem, reason: str, detail: str = "") -> None:
        self.dropped.append(
            Dropped(item_id=problem.id, problem_id=problem.id, stage=STAGE, reason=reason, detail=detail)
        )

    def drop_samples(self, problem: Problem, reason: str, samples: Sequence[_Sample]) -> None:
        if samples:
            details = sorted({sample.detail for sample in samples if sample.detail})
            self.dropped.append(
                Dropped(
                    item_id=problem.id,
                    problem_id=problem.id,
                    stage=STAGE,
                    reason=f"sample_{reason}",
                    detail="; ".join(details[:3]),
                    count=len(samples),
                    examples=examples_of(
                        ((f"{problem.id}/{sample.index}", sample.text) for sample in samples),
                        self._keep_examples,
                    ),
                    usage=sum((sample.usage for sample in samples), Usage()),
                )
            )


def _collect(outcomes: Sequence[_Outcome], keep: int) -> StageOutput[Solution]:
    return StageOutput(
        tuple(solution for outcome in outcomes for solution in outcome.kept),
        with_few_examples([row for outcome in outcomes for row in outcome.dropped], keep),
        tuple(outcome.lost for outcome in outcomes if outcome.lost is not None),
    )


async def _solve(problem: Problem, drawer: _Drawer, options: SolutionsConfig) -> _Outcome:
    outcome = _Outcome(options.keep_examples)
    if problem.answer is None:
        outcome.drop_problem(problem, "no_reference")
        return outcome
    samples: list[_Sample] = []
    seen: set[tuple[str, ...]] = set()
    right = wrong = 0
    while len(samples) < options.max_samples and min(right, wrong) < options.per_class:
        end = min(len(samples) + options.batch, options.max_samples)
        drawn = await drawer.draw(problem, range(len(samples), end))
        if options.duplicates == "drop":
            drawn = _marked(drawn, seen)
        samples += drawn
        more_right, more_wrong = _classes(drawn)
        right, wrong = right + len(more_right), wrong + len(more_wrong)
        error = _lost_to(drawn)
        if error is not None:
            outcome.lose(problem, error, samples)
            return outcome
    _settle(problem, samples, outcome, options)
    return outcome


def _marked(samples: Sequence[_Sample], seen: set[tuple[str, ...]]) -> list[_Sample]:
    """The samples, each marked if its steps are among those seen, up to white space; from now on they are."""
    marked = []
    for sample in samples:
        steps = tuple(" ".join(step.split()) for step in sample.solution.steps) if sample.solution else ()
        marked.append(replace(sample, duplicate=bool(steps) and steps in seen))
        seen.add(steps)
    return marked


def _classes(samples: Sequence[_Sample]) -> tuple[list[_Sample], list[_Sample]]:
    """The valid samples with a right answer, and those with a wrong one."""
    valid = [(sample, sample.solution) for sample in samples if sample.flaw is None]
    right = [sample for sample, solution in valid if solution and solution.correct]
    return right, [sample for sample, solution in valid if solution and not solution.correct]


def _settle(
    problem: Problem, samples: Sequence[_Sample], outcome: _Outcome, options: SolutionsConfig
) -> None:
    """Decide what is kept, and count the rest."""
    right, wrong = _classes(samples)
    valid = [sample for sample in samples if sample.flaw is None]
    dropped_for = None
    if not valid:
        dropped_for = "no_valid_samples"
    elif options.require_both and not (right and wrong):
        dropped_for = "hard" if wrong else "easy"
    if dropped_for is not None:
        errors = [sample.error for sample in samples]
        fault = unsettling_nothing(errors.count(None), errors)
        if fault is not None:
            outcome.lose(problem, fault, samples)
            return
    for reason in FLAWS:
        outcome.drop_samples(problem, reason, [sample for sample in samples if sample.flaw == reason])
    if dropped_for is not None:
        outcome.drop_problem(problem, dropped_for, f"{len(right)} right, {len(wrong)} wrong")
        outcome.drop_samples(problem, "problem_dropped", valid)
        return
    chosen = {sample.index for sample in (*right[: options.per_class], *wrong[: options.per_class])}
    outcome.kept = tuple(sample.solution for sample in valid if sample.solution and sample.index in chosen)
    outcome.drop_samples(problem, "surplus", [sample for sample in valid if sample.index not in chosen])
