"""What the quickstart measures, as chains of library stages: localisation, Best-of-N, refinement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from genprm.config import Components, EngineConfig, VerifyConfig
from genprm.identity import content_key
from genprm.records import Problem
from genprm.runs import Chain
from genprm.runs.stage import Stage
from genprm.runs.stages import BestOfNStage, RefineStage, SampleStage, VerifyStage
from genprm.worlds.arithmetic.problems import generate_problems
from genprm.worlds.arithmetic.quickstart.settings import LOCALISATION_MODES, POOL_SIZES, QuickstartConfig


@dataclass(frozen=True)
class EvaluationProblems:
    """Problems from the world's evaluation side; each purpose has its own, so that no figure leans on another's."""

    purpose: str
    count: int
    seed: int

    def __iter__(self) -> Iterator[Problem]:
        seed = self.seed + int(content_key(self.purpose)[:6], 16)
        return iter(generate_problems(split="eval", count=self.count, seed=seed))


def localisation(
    config: QuickstartConfig, verifier: EngineConfig, direct: EngineConfig
) -> tuple[Chain, EvaluationProblems]:
    """One sample per problem; every form of the verifier looks for its first error."""
    options = config.evaluation
    stages: list[Stage] = [_samples(config, "localisation", 1)]
    for mode in LOCALISATION_MODES:
        stages.append(
            VerifyStage(
                _verify(config, options.votes, mode, localise=True),
                direct if mode == "direct" else verifier,
                config.sandbox,
                options.seed,
                solutions="localisation-solutions",
                name=f"localisation-{mode}",
            )
        )
    return Chain("localisation", tuple(stages)), EvaluationProblems(
        "localisation", options.localisation_solutions, options.seed
    )


def best_of_n(config: QuickstartConfig, verifier: EngineConfig) -> tuple[Chain, EvaluationProblems]:
    """Pools of samples with all steps judged, and what each rule chooses."""
    options = config.evaluation
    chain = Chain(
        "best-of-n",
        (
            _samples(config, "best-of-n", max(POOL_SIZES)),
            VerifyStage(
                _verify(config, options.best_of_n_votes, "cot+code+execution"),
                verifier,
                config.sandbox,
                options.seed,
                solutions="best-of-n-solutions",
                name="best-of-n-verifications",
            ),
            BestOfNStage(solutions="best-of-n-solutions", verifications="best-of-n-verifications"),
        ),
    )
    return chain, EvaluationProblems("best-of-n", options.best_of_n_problems, options.seed)


def refinement(config: QuickstartConfig, verifier: EngineConfig) -> tuple[Chain, EvaluationProblems]:
    """First solutions, refined with the verifier as critic and by the policy alone."""
    options, policy = config.evaluation, config.roles.policy
    critic = _verify(config, options.refinement_votes, "cot+code+execution")
    shared = (config.refine, policy, config.solutions.profile, config.sandbox, options.seed)
    solutions = "refinement-solutions"
    chain = Chain(
        "refinement",
        (
            _samples(config, "refinement", 1),
            RefineStage(
                *shared, verifier=verifier, verify=critic, solutions=solutions, name="refine-critic"
            ),
            RefineStage(*shared, solutions=solutions, name="refine-self"),
        ),
    )
    return chain, EvaluationProblems("refinement", options.refinement_problems, options.seed)


def _samples(config: QuickstartConfig, purpose: str, n: int) -> SampleStage:
    return SampleStage(
        config.solutions, config.roles.policy, n, config.evaluation.seed, name=f"{purpose}-solutions"
    )


def _verify(
    config: QuickstartConfig, votes: int, components: Components, *, localise: bool = False
) -> VerifyConfig:
    """Options of one measurement; `localise` stops when all paths, together and each alone, found their error."""
    return config.verify.model_copy(
        update={
            "votes": votes,
            "components": components,
            "stop_at_first_error": localise,
            "every_path_to_its_error": localise,
        }
    )
