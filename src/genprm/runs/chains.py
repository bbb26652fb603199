"""The chains that the library runs, made from configs."""

from __future__ import annotations

from collections.abc import Iterator

from genprm.config import ProblemsConfig, RunConfig
from genprm.errors import ConfigError
from genprm.records import Problem
from genprm.runs.stage import Chain, Stage
from genprm.runs.stages import (
    ChatsStage,
    ConsensusStage,
    GivenLabelsStage,
    GivenSolutionsStage,
    LabelsStage,
    MonteCarloStage,
    RationalesStage,
    SolutionsStage,
    VerifyStage,
)
from genprm.sources.overlap import EvaluationSets
from genprm.sources.problems import LABELLED, screened_problems
from genprm.sources.registry import registered_source
from genprm.sources.rows import can_be_read_again

SYNTHESIS = ("solutions", "montecarlo", "labels", "rationales", "consensus", "chats")
_SOMETIMES = ("montecarlo", "verifications")
"""Stages that a run has with some options and not with others."""
STAGES = (*SYNTHESIS, "verifications", "train")
"""What `genprm run --until` takes, in order; `verifications` is there only if `roles.verifier` is set."""


class ProblemSource:
    """A run's problems, read anew whenever they are iterated over; those to be left out say so (`Problem.left_out`).

    What comes from a pipe is read once and kept, since a run may ask for its problems a second time.
    """

    def __init__(self, options: ProblemsConfig, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._sets: EvaluationSets | None = None
        self._kept: list[Problem] | None = None

    def check(self) -> None:
        """Find out, without reading a row, whether there is a source, and one that is known.

        Raises:
            ConfigError, DataError, MissingExtraError: as `iterate_problems` raises at once.
        """
        screened_problems(self._options, self._seed)

    @property
    def lasts(self) -> bool:
        """Whether the source can be read more than once."""
        source = self._options.source
        return registered_source(source) is not None or can_be_read_again(source)

    def __iter__(self) -> Iterator[Problem]:
        if self._kept is not None:
            return iter(self._kept)
        if self._options.decontaminate and self._sets is None:
            self._sets = EvaluationSets(self._options.decontaminate)
        found = screened_problems(self._options, self._seed, self._sets)
        if self.lasts:
            return found
        self._kept = list(found)
        return iter(self._kept)


def synthesis_chain(config: RunConfig) -> Chain:
    """Everything up to the training chats and, if `roles.verifier` is set, verifications of the solutions.

    Problems of the preset `labelled` bring solutions and labels along, so that nothing is sampled but rationales.
    """
    roles, seed, domain = config.roles, config.seed, config.domain
    given = config.problems.preset == LABELLED
    stages: list[Stage] = _given(config) if given else _sampled(config)
    needs = ("solutions", "labels") if given else ("solutions", "montecarlo")
    stages += [
        RationalesStage(config.rationales, roles.teacher, config.sandbox, seed, domain, needs=needs),
        ConsensusStage(),
        ChatsStage(config.chats, config.verify.profile, seed),
    ]
    if roles.verifier is not None:
        stages.append(VerifyStage(config.verify, roles.verifier, config.sandbox, seed, domain))
    names = {stage.name for stage in stages}
    return Chain("synthesis", tuple(stages), gone=tuple(name for name in _SOMETIMES if name not in names))


def _given(config: RunConfig) -> list[Stage]:
    return [GivenSolutionsStage(domain=config.domain), GivenLabelsStage()]


def _sampled(config: RunConfig) -> list[Stage]:
    roles, seed, domain = config.roles, config.seed, config.domain
    return [
        SolutionsStage(config.solutions, roles.policy, seed, domain),
        MonteCarloStage(
            config.montecarlo,
            roles.completer or roles.policy,
            seed,
            config.solutions.profile,
            domain,
            config.label,
        ),
        LabelsStage(config.label),
    ]


def chain_until(config: RunConfig, until: str) -> Chain:
    """The synthesis chain up to a stage; `train` needs all up to `chats`.

    Raises:
        ConfigError: an unknown stage, `verifications` without a verifier, or `montecarlo` of given labels.
    """
    if until not in STAGES:
        raise ConfigError(f"there is no stage '{until}'", hint=f"Stages: {', '.join(STAGES)}.")
    if until == "verifications" and config.roles.verifier is None:
        raise ConfigError(
            "the stage 'verifications' needs a verifier",
            hint="Set roles.verifier, for example {kind: http}.",
        )
    chain = synthesis_chain(config)
    last = "chats" if until == "train" else until
    if last not in [stage.name for stage in chain.stages]:
        raise ConfigError(
            f"a run that begins with labels has no stage '{last}'",
            hint=f"Stages: {', '.join(stage.name for stage in chain.stages)}, train.",
        )
    return chain.until(last)
