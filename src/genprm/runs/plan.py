"""What a run would cost, before anything is called."""

from __future__ import annotations

from dataclasses import dataclass

from genprm.config import RunConfig


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes for granted, since no model has been asked yet.

    Attributes:
        steps: steps a solution.
        step_tokens: tokens a step.
        prompt_tokens: tokens a problem.
        pass_rate: share of samples that are correct.
        rationale_step_tokens: tokens that a teacher writes about one step.
        kept: share of solutions that the consensus filter keeps (the paper's: 0.49).
    """

    steps: float = 6.0
    step_tokens: float = 60.0
    prompt_tokens: float = 120.0
    pass_rate: float = 0.5
    rationale_step_tokens: float = 400.0
    kept: float = 0.49


@dataclass(frozen=True)
class StagePlan:
    """Expected cost of one stage; tokens are those generated, except for training: those read."""

    stage: str
    engine: str
    items: int
    calls: int
    tokens: int
    calls_at_most: int


def plan_run(config: RunConfig, problems: int, until: str, assume: Assumptions) -> list[StagePlan]:
    """The expected cost of every stage up to `until`, in order.

    Args:
        problems: how many problems the run starts from.
    """
    roles = config.roles
    completer = roles.completer or roles.policy
    wanted = 2 * config.solutions.per_class
    rarer = max(min(assume.pass_rate, 1 - assume.pass_rate), 1 / config.solutions.max_samples)
    draws = min(config.solutions.per_class / rarer, config.solutions.max_samples)
    batches = -(-draws // config.solutions.batch)
    samples = int(problems * min(batches * config.solutions.batch, config.solutions.max_samples))
    solution_tokens = assume.steps * assume.step_tokens
    solutions = problems * wanted

    sampled_steps = max(assume.steps - 1, 0)
    mc_calls = int(
        problems * config.montecarlo.k_start + solutions * sampled_steps * config.montecarlo.k_medium
    )
    mc_most = int(
        problems * config.montecarlo.k_start + solutions * sampled_steps * config.montecarlo.k_hard
    )
    rationales = solutions * config.rationales.samples
    rounds = int(rationales * assume.steps)
    kept = int(solutions * assume.kept)
    chat_tokens = assume.prompt_tokens + assume.steps * (assume.step_tokens + assume.rationale_step_tokens)
    train_tokens = config.train.max_tokens or int(kept * chat_tokens * config.train.epochs)

    stages = [
        StagePlan("problems", "", problems, 0, 0, 0),
        StagePlan(
            "solutions",
            roles.policy.kind,
            problems,
            samples,
            int(samples * solution_tokens),
            problems * config.solutions.max_samples,
        ),
        StagePlan(
            "montecarlo", completer.kind, solutions, mc_calls, int(mc_calls * solution_tokens / 2), mc_most
        ),
        StagePlan("label", "", solutions, 0, 0, 0),
        StagePlan(
            "rationales",
            roles.teacher.kind,
            rationales,
            rounds,
            int(rounds * assume.rationale_step_tokens),
            int(rounds * config.rationales.max_rounds),
        ),
        StagePlan("filter", "", solutions, 0, 0, 0),
        StagePlan("train", config.train.model or "(no model)", kept, 0, train_tokens, 0),
    ]
    names = [stage.stage for stage in stages]
    return stages[: names.index(until) + 1]
