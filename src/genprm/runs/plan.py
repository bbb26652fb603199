"""What a run would cost, before anything is called."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from genprm.config import MonteCarloConfig, RunConfig, VerifyConfig
from genprm.runs.chains import ProblemSource, chain_until
from genprm.runs.finished import finished_problems
from genprm.runs.preflight import check_components, check_roles, require_model
from genprm.sources.problems import LABELLED


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes for granted, since no model has been asked yet.

    Attributes:
        steps: steps per solution.
        step_tokens: tokens per step.
        prompt_tokens: tokens per problem.
        pass_rate: share of samples that are correct.
        rationale_step_tokens: tokens that a teacher writes about one step.
        kept: share of solutions that the consensus filter keeps (the paper's: 0.49).
        sampled: share of its K samples that a state needs with `sequential` or `binary`; 0.31 to 0.47 were
            measured (docs/explanation/labels.md).
    """

    steps: float = 6.0
    step_tokens: float = 60.0
    prompt_tokens: float = 120.0
    pass_rate: float = 0.5
    rationale_step_tokens: float = 400.0
    kept: float = 0.49
    sampled: float = 0.4


@dataclass(frozen=True)
class StagePlan:
    """Expected cost of one stage; tokens are those generated, except for training: those read.

    Attributes:
        finished: share of the problems that an earlier run has settled in this stage; the figures are for the others.
    """

    stage: str
    engine: str
    items: int
    calls: int
    tokens: int
    calls_at_most: int
    finished: float = 0.0

    def without(self, finished: float) -> StagePlan:
        """The plan for what is left."""
        left = 1.0 - finished
        return replace(
            self,
            items=round(self.items * left),
            calls=round(self.calls * left),
            tokens=round(self.tokens * left),
            calls_at_most=round(self.calls_at_most * left),
            finished=finished,
        )


def plan_run(
    config: RunConfig, until: str, assume: Assumptions, folder: Path | None = None
) -> list[StagePlan]:
    """The expected cost of every stage up to `until`, in order. Problems are counted, nothing is called.

    Args:
        folder: a run directory; what an earlier run finished there costs nothing.

    Raises:
        ConfigError: an unknown stage, engine kind or engine option, a budget beyond its context, no model to train, or
            chats without the components that the verifier is asked for.
        DataError: problems that cannot be read.
    """
    chain = chain_until(config, until)
    source = ProblemSource(config.problems, config.seed)
    source.check()
    check_roles(config, chain)
    if until == "train":
        check_components(config)
        require_model(config.train)
    problems = sum(problem.left_out is None for problem in source)
    stages = _stages(config, until, assume, problems)
    if folder is None or not (folder / "run.json").is_file():
        return stages
    done = finished_problems(chain, source, config.store.shard_size, folder)
    return [one.without(done[one.stage] / problems) if problems else one for one in stages]


def _monte_carlo(
    options: MonteCarloConfig, assume: Assumptions, problems: int, solutions: int
) -> tuple[int, int]:
    """Completions to expect, and at most."""
    fixed = options.estimator == "fixed"
    ks = (options.k_start,) if fixed else (options.k_hard, options.k_medium, options.k_easy)
    usual, most = options.k_start if fixed else options.k_medium, max(ks)
    states = max(assume.steps - 1, 0)
    expected = states
    if options.estimator == "binary":
        # Of wrong solutions one state for each halving.
        expected = min(states, states * assume.pass_rate + (1 - assume.pass_rate) * math.log2(states + 1))
    share = assume.sampled if options.rule_decides else 1.0
    starts = problems * max(options.k_start, usual), problems * max(options.k_start, most)
    return (
        int(starts[0] + solutions * expected * usual * share),
        int(starts[1] + solutions * states * most),
    )


def _stages(config: RunConfig, until: str, assume: Assumptions, problems: int) -> list[StagePlan]:
    """The plan of a run from its beginning."""
    roles = config.roles
    given = config.problems.preset == LABELLED
    solutions = problems if given else problems * 2 * config.solutions.per_class
    rationales = solutions * config.rationales.samples
    steps = int(rationales * assume.steps)
    kept = int(solutions * assume.kept)
    stages = [
        *(_given(solutions) if given else _sampled(config, assume, problems, solutions)),
        StagePlan("labels", "", solutions, 0, 0, 0),
        StagePlan(
            "rationales",
            roles.teacher.kind,
            rationales,
            # Of each step one to the end of its code and one to its judgement; then one to the index, and the index.
            2 * steps + 2 * rationales,
            int(min(steps * assume.rationale_step_tokens, rationales * config.rationales.max_tokens)),
            # Of each step, and of what follows the last one, all rounds, one too many and a forced judgement; before
            # all that a thought, after it the index.
            (steps + rationales) * (config.rationales.max_rounds + 2) + 2 * rationales,
        ),
        StagePlan("consensus", "", solutions, 0, 0, 0),
        StagePlan("chats", "", kept, 0, 0, 0),
    ]
    if roles.verifier is not None and until == "verifications":
        verified = int(solutions * assume.steps * config.verify.votes)
        tokens = int(verified * min(assume.rationale_step_tokens, config.verify.max_tokens))
        calls, most = _calls_per_vote(config.verify)
        stages.append(
            StagePlan(
                "verifications", roles.verifier.kind, solutions, verified * calls, tokens, verified * most
            )
        )
    if until == "train":
        chat_tokens = assume.prompt_tokens + assume.steps * (
            assume.step_tokens + assume.rationale_step_tokens
        )
        train_tokens = config.train.max_tokens or int(kept * chat_tokens * config.train.epochs)
        stages.append(StagePlan("train", config.train.model, kept, 0, train_tokens, 0))
        return stages
    names = [stage.stage for stage in stages]
    return stages[: names.index(until) + 1]


def _calls_per_vote(options: VerifyConfig) -> tuple[int, int]:
    """Calls to expect for one vote on one step, and at most.

    They are for its analysis, its code rounds, one too many of these, a forced judgement, and the judgement's
    probability, for which some servers have to be asked once more.
    """
    analysis = int("cot" in options.components)
    if "code" not in options.components:
        return analysis + 1, analysis + 2
    return analysis + 2, analysis + options.max_rounds + 3


def _given(solutions: int) -> list[StagePlan]:
    return [StagePlan("solutions", "", solutions, 0, 0, 0)]


def _sampled(config: RunConfig, assume: Assumptions, problems: int, solutions: int) -> list[StagePlan]:
    """Sampling of solutions and their Monte-Carlo scores."""
    completer = config.roles.completer or config.roles.policy
    options = config.solutions
    rarer = max(min(assume.pass_rate, 1 - assume.pass_rate), 1 / options.max_samples)
    draws = min(options.per_class / rarer, options.max_samples)
    batches = -(-draws // options.batch)
    samples = int(problems * min(batches * options.batch, options.max_samples))
    solution_tokens = assume.steps * assume.step_tokens
    calls, most = _monte_carlo(config.montecarlo, assume, problems, solutions)
    return [
        StagePlan(
            "solutions",
            config.roles.policy.kind,
            problems,
            samples,
            int(min(samples * solution_tokens, samples * options.max_tokens)),
            problems * options.max_samples,
        ),
        StagePlan(
            "montecarlo",
            completer.kind,
            solutions,
            calls,
            int(calls * min(solution_tokens / 2, config.montecarlo.max_tokens)),
            most,
        ),
    ]
