"""Monte-Carlo scores of the solutions of many problems (method, part 1)."""

from __future__ import annotations

from collections.abc import Sequence

from genprm.aio import bounded_map
from genprm.config.models import LabelConfig, MonteCarloConfig
from genprm.domains import Domain
from genprm.engines.base import Engine
from genprm.generate.examples import with_few_examples
from genprm.generate.policy import lost, unsettling
from genprm.records import Problem, Solution, SolutionScores, StageOutput, Usage
from genprm.synth.montecarlo.estimators import CompletionEstimator, Estimator
from genprm.synth.montecarlo.plans import make_plan
from genprm.synth.montecarlo.problem import Gate, Outcome, ProblemScorer
from genprm.text.prompts import PolicyProfile


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
    rule: LabelConfig | None = None,
) -> StageOutput[SolutionScores]:
    """MC of the steps of every solution, by the estimator that the options name (`plans`).

    MC(s_1) is estimated once per problem from `options.k_start` samples and decides K (equation 9). If it is 0 the
    problem's solutions are dropped (`start_zero`), and also if it is unknown (`start_unknown`). The last step's MC is
    its own answer's. States that solutions of a problem share are estimated once; the first solution in order
    that has them carries their cost.

    If the engine failed on all samples of a state, its solution is dropped (`engine_failed`) unless the fault is
    retryable or none of the problem's solutions is settled; in these cases the problem is lost. It is lost as well if
    retryable faults took more than half of a state's samples, or one in twenty where no other is right: that MC is 0 is
    not known then.

    Args:
        seed: an estimate depends on it, the problem's id and the state's text alone.
        concurrency: engine requests in flight; one state's K are never divided.
        separator: the text between steps; a blank line unless given.
        rule: the label rule, which the estimators `sequential` and `binary` sample for.
    """
    estimator = CompletionEstimator(
        engine, domain, options, seed=seed, profile=profile, separator=separator
    )
    return await estimate_with(items, estimator, options, concurrency=concurrency, rule=rule)


async def estimate_with(
    items: Sequence[tuple[Problem, Sequence[Solution]]],
    estimator: Estimator,
    options: MonteCarloConfig,
    *,
    concurrency: int = 256,
    rule: LabelConfig | None = None,
) -> StageOutput[SolutionScores]:
    """`estimate`, with any estimator of single states."""
    gate = Gate(concurrency)
    plan = make_plan(options, rule or LabelConfig())

    async def work(item: tuple[Problem, Sequence[Solution]]) -> list[Outcome]:
        return await ProblemScorer(item[0], item[1], estimator, options, plan, gate).run()

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
