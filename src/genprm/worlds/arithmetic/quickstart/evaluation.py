"""What the quickstart measures, as chains of library stages: localisation, Best-of-N, refinement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from genprm.config import Components, EngineConfig, QuickstartConfig, VerifyConfig
from genprm.identity import content_key
from genprm.records import Problem
from genprm.runs import Chain
from genprm.runs.scaling import best_of_n_chain, refinement_chain, verified_chain
from genprm.worlds.arithmetic.problems import generate_problems
from genprm.worlds.arithmetic.quickstart.settings import LOCALISATION_MODES, POOL_SIZES


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
    options, name = config.evaluation, "localisation"
    forms = {
        f"{name}-{mode}": (_localising(config, mode), direct if mode == "direct" else verifier)
        for mode in LOCALISATION_MODES
    }
    chain = verified_chain(config, 1, verifier, forms, name=name, seed=options.seed)
    return chain, EvaluationProblems(name, options.localisation_solutions, options.seed)


def best_of_n(config: QuickstartConfig, verifier: EngineConfig) -> tuple[Chain, EvaluationProblems]:
    """Pools of samples with all steps judged, and what each rule chooses."""
    options, name = config.evaluation, "best-of-n"
    voting = _with_votes(config, options.best_of_n_votes)
    chain = best_of_n_chain(voting, max(POOL_SIZES), verifier, name=name, seed=options.seed)
    return chain, EvaluationProblems(name, options.best_of_n_problems, options.seed)


def refinement(config: QuickstartConfig, verifier: EngineConfig) -> tuple[Chain, EvaluationProblems]:
    """First solutions, refined with the verifier as critic and by the policy alone."""
    options, name = config.evaluation, "refinement"
    critics = {"refine-critic": verifier, "refine-self": None}
    voting = _with_votes(config, options.refinement_votes)
    chain = refinement_chain(voting, critics, name=name, seed=options.seed)
    return chain, EvaluationProblems(name, options.refinement_problems, options.seed)


def _with_votes(config: QuickstartConfig, votes: int) -> QuickstartConfig:
    return config.model_copy(update={"verify": config.verify.model_copy(update={"votes": votes})})


def _localising(config: QuickstartConfig, mode: Components) -> VerifyConfig:
    """Stops when all paths, together and each alone, have found their first error."""
    update = {
        "votes": config.evaluation.votes_of(mode),
        "components": mode,
        "stop_at_first_error": True,
        "every_path_to_its_error": True,
    }
    return config.verify.model_copy(update=update)
