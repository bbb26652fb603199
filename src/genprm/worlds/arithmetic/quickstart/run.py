"""The quickstart: the pipeline in the arithmetic world, its evaluation, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from genprm.config import EngineConfig, QuickstartConfig
from genprm.records import Report, Verification
from genprm.runs import (
    Chain,
    Executor,
    ProblemSource,
    Progress,
    Trained,
    check_training,
    has_chats,
    open_executor,
    open_store,
    stop_if_empty,
    synthesis_chain,
    train_on_chats,
)
from genprm.store import RunReader, RunStore
from genprm.view import write_report
from genprm.worlds.arithmetic.quickstart import evaluation
from genprm.worlds.arithmetic.quickstart.report import build_report

RowT = TypeVar("RowT")


async def run_quickstart(config: QuickstartConfig, folder: Path, progress: Progress) -> Report:
    """Run or resume the quickstart in `folder` and return the report, which is also written there.

    Raises:
        MissingExtraError, ConfigError, TrainingError: at once, if what it synthesises could not be trained on.
        GenPRMError: as `genprm.runs.run_pipeline`.
    """
    if not has_chats(folder):
        await check_training(config)
    with open_store(folder, config, progress) as store:
        async with open_executor(config, store, progress) as executor:
            trained = await _synthesise_and_train(config, store, executor, progress)
            verifier, direct = (_engine(config.roles.policy, one.path) for one in trained.values())
            await _run(executor, *evaluation.localisation(config, verifier, direct))
            await executor.release(direct)
            await _run(executor, *evaluation.best_of_n(config, verifier))
            await _run(executor, *evaluation.refinement(config, verifier))
        reader = RunReader(store.path)
        report = await build_report(config, reader, trained)
        store.write_json("report.json", report)
        write_report(report, _examples(reader, config.evaluation.examples), folder / "report.html")
    return report


async def _synthesise_and_train(
    config: QuickstartConfig, store: RunStore, executor: Executor, progress: Progress
) -> dict[str, Trained]:
    """The pipeline up to the chats; then GenPRM and the direct baseline are trained on the same ones."""
    chain = synthesis_chain(config)
    problems = ProblemSource(config.problems, config.seed)
    stop_if_empty(chain, await executor.run(chain, problems, total=config.problems.limit))
    direct = config.train.model_copy(update={"form": "direct"})
    return {
        "rationale": await train_on_chats(store, config.train, config, progress),
        "direct": await train_on_chats(store, direct, config, progress, name="train-direct"),
    }


async def _run(executor: Executor, chain: Chain, problems: evaluation.EvaluationProblems) -> None:
    await executor.run(chain, problems, total=problems.count)


def _engine(policy: EngineConfig, model: Path) -> EngineConfig:
    """The engine of a trained model, with the policy's settings."""
    return EngineConfig(kind=policy.kind, options={**policy.options, "model": str(model)})


def _examples(reader: RunReader, count: int) -> list[Verification]:
    """Verified solutions to read, half of them with a found error, in the order of the problems."""
    wrong: list[Verification] = []
    right: list[Verification] = []
    for row in reader.rows("localisation-cot+code+execution"):
        if row.first_error is not None:
            (wrong if row.first_error >= 0 else right).append(row)
    return [*wrong[: count - count // 2], *right[: count // 2]]
