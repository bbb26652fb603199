"""Chains of test-time scaling: samples, Best-of-N pools, refinement. The quickstart and the command line share them.

Stages are named `NAME-solutions`, `NAME-verifications` and so on, so that several chains fit into one run directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from genprm.config import EngineConfig, RunConfig, VerifyConfig
from genprm.records import Problem, Verification, VerifyItem, Vote, VoteStatus
from genprm.rewards.voting import tally, verification
from genprm.runs.opening import open_executor, open_store
from genprm.runs.progress import Progress, Silent
from genprm.runs.stage import Chain
from genprm.runs.stages import BestOfNStage, GivenSolutionsStage, RefineStage, SampleStage, VerifyStage
from genprm.store import RunReader


def given_chain(config: RunConfig, verifier: EngineConfig, *, name: str) -> Chain:
    """Verifications of solutions that came with their problems: the stage `NAME-verifications`.

    Problems are those of `with_steps`.
    """
    solutions = f"{name}-solutions"
    return Chain(
        name,
        (
            GivenSolutionsStage(name=solutions, domain=config.domain),
            VerifyStage(
                config.verify,
                verifier,
                config.sandbox,
                config.seed,
                config.domain,
                solutions=solutions,
                name=f"{name}-verifications",
            ),
        ),
    )


def with_steps(item: VerifyItem) -> Problem:
    """A solution to verify as a problem that brings its solution along."""
    return Problem(id=item.id, text=item.problem, metadata={"steps": list(item.steps)})


def verified_rows(
    reader: RunReader, name: str, items: Iterable[VerifyItem], votes: int
) -> Iterator[Verification]:
    """What `given_chain` made of every item, in order; one lost to a lasting fault has failed votes that say so."""
    stage = f"{name}-verifications"
    lost = {row.problem_id: row for row in reader.dropped(stage)}
    rows = reader.rows(stage)
    for item in items:
        if item.id not in lost:
            yield next(rows)
            continue
        fault = lost[item.id]
        failed = [
            Vote(path=path, status=VoteStatus(fault.reason), reason=fault.detail) for path in range(votes)
        ]
        verdicts = [tally(step, failed) for step in range(len(item.steps))]
        yield verification(item, verdicts, verifier="", usage=fault.usage)


def samples_chain(config: RunConfig, n: int, *, name: str, seed: int) -> Chain:
    """`n` samples of `roles.policy` for every problem: the stage `NAME-solutions`."""
    return Chain(
        name,
        (
            SampleStage(
                config.solutions, config.roles.policy, n, seed, config.domain, name=f"{name}-solutions"
            ),
        ),
    )


def verified_chain(
    config: RunConfig,
    n: int,
    verifier: EngineConfig,
    verifications: dict[str, tuple[VerifyConfig, EngineConfig]] | None = None,
    *,
    name: str,
    seed: int,
) -> Chain:
    """Samples, and their verifications by `config.verify`.

    Args:
        verifications: stage name -> options and engine, in place of the one stage `NAME-verifications`.
    """
    samples = samples_chain(config, n, name=name, seed=seed)
    wanted = verifications or {f"{name}-verifications": (config.verify, verifier)}
    stages = tuple(
        VerifyStage(
            options,
            engine,
            config.sandbox,
            seed,
            config.domain,
            solutions=f"{name}-solutions",
            name=stage,
        )
        for stage, (options, engine) in wanted.items()
    )
    return Chain(name, (*samples.stages, *stages))


def best_of_n_chain(config: RunConfig, n: int, verifier: EngineConfig, *, name: str, seed: int) -> Chain:
    """Pools of samples with all steps judged, and what each rule chooses: the stage `NAME`."""
    options = config.verify.model_copy(update={"stop_at_first_error": False})
    whole = config.model_copy(update={"verify": options})
    chain = verified_chain(whole, n, verifier, name=name, seed=seed)
    choice = BestOfNStage(
        solutions=f"{name}-solutions",
        verifications=f"{name}-verifications",
        domain=config.domain,
        name=name,
    )
    return Chain(name, (*chain.stages, choice))


def refinement_chain(
    config: RunConfig, critics: dict[str, EngineConfig | None], *, name: str, seed: int
) -> Chain:
    """First solutions and their refinement.

    Args:
        critics: stage name -> the critic's engine; None for self-refinement.
    """
    samples = samples_chain(config, 1, name=name, seed=seed)
    stages = tuple(
        RefineStage(
            config.refine,
            config.roles.policy,
            config.solutions.profile,
            config.sandbox,
            seed,
            verifier=critic,
            verify=config.verify,
            domain=config.domain,
            solutions=f"{name}-solutions",
            name=stage,
        )
        for stage, critic in critics.items()
    )
    return Chain(name, (*samples.stages, *stages))


async def run_chain(
    chain: Chain,
    problems: Iterable[Problem],
    config: RunConfig,
    folder: Path,
    *,
    total: int | None = None,
    progress: Progress | None = None,
    kept: bool = True,
) -> RunReader:
    """Run or resume one chain in a run directory of its own.

    Args:
        kept: whether the run directory stays when this fails, so that errors may point to it.

    Raises:
        RunIncomplete: problems are pending; run it again.
    """
    progress = progress or Silent()
    with open_store(folder, config, progress) as store:
        async with open_executor(config, store, progress) as executor:
            await executor.run(chain, problems, total=total, kept=kept)
    return RunReader(folder)
