"""The config of a whole run."""

from __future__ import annotations

from typing import Any, Literal

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
from genprm.config.seeds import LAST_SEED
from genprm.config.serve import ServeConfig


class StoreConfig(Section):
    """How a run is cut and written.

    Attributes:
        shard_size: problems per shard, which flows through all stages as one.
        shards_in_flight: shards in work at the same time; memory is that of so many.
        format: of the rows of each shard.
        mirror: URL of a folder in object storage, for this run alone, for example `s3://bucket/runs/first`. Finished
            shards are copied there; a run that begins in an empty directory, on any machine, takes from there what it
            can use. With the executor `ray`, nodes then need no common file system.
    """

    shard_size: int = Field(default=64, gt=0)
    shards_in_flight: int = Field(default=4, gt=0)
    format: Literal["jsonl", "parquet"] = "jsonl"
    mirror: str | None = Field(default=None, min_length=1)


class ExecutorConfig(Section):
    """Where a run's shards are worked on.

    Attributes:
        kind: `local`: in this process. `ray`: by actors of a Ray cluster, which need the run directory at the same path.
        address: `ray`: the cluster's, as HOST:PORT, or `auto` for the one that this machine belongs to. Unless given:
            what RAY_ADDRESS says, else a cluster that runs on this machine, else one made for the run.
        actors: `ray`: how many; one per node that has enough for one unless given. `concurrency` is divided among them;
            `store.shards_in_flight` counts for each.
        cpus_per_actor, gpus_per_actor: `ray`: what the scheduler sets aside for an actor. With engines in the process
            on GPUs, `gpus_per_actor` gives each actor its own.
        max_deaths: `ray`: so many actors may die while they have one and the same shard in work.
        wait_seconds: `ray`: how long to wait while the cluster has no place for any actor.
        runtime_env: `ray`: Ray's runtime environment of the actors, for example `{env_vars: {...}}`.
    """

    kind: Literal["local", "ray"] = "local"
    address: str | None = None
    actors: int | None = Field(default=None, gt=0)
    cpus_per_actor: float = Field(default=1.0, ge=0)
    gpus_per_actor: float = Field(default=0.0, ge=0)
    max_deaths: int = Field(default=3, ge=0)
    wait_seconds: float = Field(default=300.0, gt=0)
    runtime_env: dict[str, Any] = Field(default_factory=dict)


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

    seed: int = Field(
        default=0, ge=0, le=LAST_SEED, description="of all sampling, and of the built-in world's problems"
    )
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
    executor: ExecutorConfig = ExecutorConfig()
    serve: ServeConfig = ServeConfig()
