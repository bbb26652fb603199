"""The config of a whole run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from genprm.config.models import (
    ChatsConfig,
    EngineConfig,
    LabelConfig,
    MonteCarloConfig,
    ProblemsConfig,
    RationaleConfig,
    RefineConfig,
    SandboxConfig,
    Section,
    SolutionsConfig,
    TrainConfig,
    VerifyConfig,
)
from genprm.config.serve import ServeConfig


class StoreConfig(Section):
    """How a run is cut and written.

    Attributes:
        shard_size: problems per shard, which flows through all stages as one.
        shards_in_flight: shards in work at the same time; memory is that of so many.
        format: of the rows of each shard.
    """

    shard_size: int = Field(default=64, gt=0)
    shards_in_flight: int = Field(default=4, gt=0)
    format: Literal["jsonl", "parquet"] = "jsonl"


class RolesConfig(Section):
    """Which engine plays which role.

    Attributes:
        policy: writes solutions.
        completer: finishes partial solutions; the policy unless given.
        teacher: writes rationales.
        verifier: the model that judges the run's solutions in the stage `verifications`; no such stage unless given.
    """

    policy: EngineConfig = EngineConfig()
    completer: EngineConfig | None = None
    teacher: EngineConfig = EngineConfig()
    verifier: EngineConfig | None = None


class RunConfig(Section):
    """Everything that decides what a run computes, apart from where it is written."""

    seed: int = Field(default=0, description="of all sampling, and of the built-in world's problems")
    concurrency: int = Field(default=256, gt=0, description="engine requests in flight")
    domain: str = Field(
        default="math",
        description="the subject: math; math-announced takes no answer from a concluding sentence alone, "
        "math-last-number takes the text's last number in its place",
    )
    problems: ProblemsConfig = ProblemsConfig()
    roles: RolesConfig = RolesConfig()
    sandbox: SandboxConfig = SandboxConfig()
    solutions: SolutionsConfig = SolutionsConfig()
    montecarlo: MonteCarloConfig = MonteCarloConfig()
    label: LabelConfig = LabelConfig()
    rationales: RationaleConfig = RationaleConfig()
    chats: ChatsConfig = ChatsConfig()
    train: TrainConfig = TrainConfig()
    verify: VerifyConfig = VerifyConfig()
    refine: RefineConfig = RefineConfig()
    store: StoreConfig = StoreConfig()
    serve: ServeConfig = ServeConfig()
