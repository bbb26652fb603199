"""Runs: stages in chains, shards that flow through them, executors, plans, resources."""

from genprm.runs.chains import STAGES, ProblemSource, chain_until, synthesis_chain
from genprm.runs.executor import Executor, LocalExecutor
from genprm.runs.fine_tuning import fine_tune
from genprm.runs.opening import open_executor, open_store
from genprm.runs.pilot import read_prediction, run_pilot
from genprm.runs.pipeline import (
    RunResult,
    Trained,
    check_training,
    has_chats,
    run_pipeline,
    stop_if_empty,
    train_on_chats,
)
from genprm.runs.plan import Assumptions, StagePlan, plan_run
from genprm.runs.progress import Progress, Silent
from genprm.runs.resources import Resources
from genprm.runs.stage import Chain, Shard, Stage

__all__ = [
    "STAGES",
    "Assumptions",
    "Chain",
    "Executor",
    "LocalExecutor",
    "ProblemSource",
    "Progress",
    "Resources",
    "RunResult",
    "Shard",
    "Silent",
    "Stage",
    "StagePlan",
    "Trained",
    "chain_until",
    "check_training",
    "fine_tune",
    "has_chats",
    "open_executor",
    "open_store",
    "plan_run",
    "read_prediction",
    "run_pilot",
    "run_pipeline",
    "stop_if_empty",
    "synthesis_chain",
    "train_on_chats",
]
