"""No key of a config without a reader: everything runs, small, and every key must have been asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sums

from genprm import label
from genprm.config import ExecutorConfig, RunConfig, ServeConfig, TrainConfig, VerifyConfig, load_config
from genprm.runs import (
    Chain,
    ProblemSource,
    Silent,
    open_executor,
    open_store,
    run_pipeline,
    stages,
)
from genprm.store import RunReader
from genprm.worlds.arithmetic.quickstart import QuickstartConfig, quickstart_defaults, run_quickstart
from read_keys import leaves, watched


@pytest.fixture(autouse=True)
def engines() -> Iterator[None]:
    sums.register()
    yield


VERIFIERS: list[dict[str, Any]] = [
    {"votes": 3, "voting": "sequential"},
    {"votes": 2, "every_path_to_its_error": True, "stop_at_first_error": True, "threshold": 0.95},
    {"token_budget": 1},
]


def evaluation(config: RunConfig) -> Chain:
    """What is made of a config beside the pipeline: samples, several kinds of verification, refinement."""
    roles, seed = config.roles, config.seed
    assert roles.verifier is not None
    judges = [
        stages.VerifyStage(
            VerifyConfig.model_validate(config.verify.model_copy(update=changes).model_dump()),
            roles.verifier,
            config.sandbox,
            seed,
            solutions="samples",
            name=f"judge-{number}",
        )
        for number, changes in enumerate(VERIFIERS)
    ]
    return Chain(
        "evaluation",
        (
            stages.SampleStage(config.solutions, roles.policy, 2, seed, name="samples"),
            *judges,
            stages.RefineStage(
                config.refine,
                roles.policy,
                config.solutions.profile,
                config.sandbox,
                seed,
                roles.verifier,
                config.verify,
                solutions="samples",
            ),
        ),
    )


async def test_every_key_of_a_run_has_a_reader(tmp_path: Path) -> None:
    problems = sums.write_problems(tmp_path / "problems.jsonl", 6)
    rules = ["montecarlo.estimator=sequential", "label.method=posterior"]
    config = load_config(None, rules, model=RunConfig, base=sums.config(problems))
    with watched(config) as reads:
        await run_pipeline(config, tmp_path / "run", until="verifications")
        scores = RunReader(tmp_path / "run").rows("montecarlo")
        label(scores, config.label.model_copy(update={"method": "difference"}))
        with open_store(tmp_path / "run", config, Silent()) as store:
            async with open_executor(config, store, Silent()) as executor:
                await executor.run(evaluation(config), ProblemSource(config.problems, config.seed))
    trained = {f"train.{path}" for path, _, _ in leaves(TrainConfig)}
    registered = {"problems.split"}  # read below, for the kinds of sources that have splits
    spread = {
        f"executor.{path}" for path, _, _ in leaves(ExecutorConfig)
    }  # read by the executor on Ray, see its tests
    served = {
        f"serve.{path}" for path, _, _ in leaves(ServeConfig)
    }  # read by `genprm serve`, see its tests
    assert set(reads.missing()) - trained - registered - served - spread == set()


def test_the_split_is_read_where_there_are_splits() -> None:
    config = load_config(None, ["problems.source=arithmetic", "problems.limit=1"], model=RunConfig)
    with watched(config) as reads:
        list(ProblemSource(config.problems, config.seed))
    assert "problems.split" not in reads.missing()


@pytest.mark.slow
async def test_every_key_of_the_quickstart_has_a_reader(tmp_path: Path) -> None:
    small = [
        "problems.limit=8",
        "store.shard_size=4",
        "train.max_tokens=4000",
        "evaluation.votes=1",
        "evaluation.localisation_solutions=2",
        "evaluation.best_of_n_problems=1",
        "evaluation.refinement_problems=2",
    ]
    config = load_config(None, small, model=QuickstartConfig, base=quickstart_defaults())
    with watched(config) as reads:
        await run_quickstart(config, tmp_path / "run", Silent())
    assert [key for key in reads.missing() if key.startswith("evaluation.")] == []
