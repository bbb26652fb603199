"""genprm: train, run and serve generative process reward models.

    import genprm

    result = genprm.verify("builtin:verifier", problem="...", steps=["...", "..."], votes=4)
    print(genprm.verdict_table(result))

Names are loaded when they are first used, so that importing genprm is cheap and needs no torch. Errors are drawn as a
tree in `genprm.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genprm._exports import *

__version__ = "0.1.0"

_MODULES: dict[str, tuple[str, ...]] = {
    "genprm.api.verification": ("verify", "verify_many", "verify_stream"),
    "genprm.api.scaling": ("best_of_n", "refine", "sample"),
    "genprm.api.labelled": ("load_chats", "load_labelled", "train_prm", "write_rows"),
    "genprm.api.pipelines": ("label", "run", "train"),
    "genprm.api.screening": ("decontaminate",),
    "genprm.api.rl": ("load_verifications", "train_dpo", "train_grpo"),
    "genprm.api.evaluation": ("evaluate",),
    "genprm.view.verdicts": ("verdict_table",),
    "genprm.serve": ("AsyncRewardClient", "RewardClient", "RewardService", "Served", "ServedStep"),
    "genprm.rewards.discriminative.reward": ("DiscriminativeReward",),
    "genprm.rl": ("Scored", "Scorer"),
    "genprm.rewards": (
        "IncrementalReward",
        "Line",
        "RewardFacts",
        "ScriptedReward",
        "StepReward",
        "Verifier",
        "judge_all",
    ),
    "genprm.engines": (
        "Completion",
        "Engine",
        "HttpEngine",
        "LocalEngine",
        "ReplicatedEngine",
        "Request",
        "SamplingParams",
        "Scripted",
        "ScriptedEngine",
        "VllmEngine",
        "make_engine",
    ),
    "genprm.domains.math": ("Grader", "MathDomain", "extract_answer"),
    "genprm.text.steps": ("split_steps",),
    "genprm.sandbox": ("IsolatedSandbox", "Sandbox", "open_sandbox"),
    "genprm.sources": ("load_problems", "load_solutions"),
    "genprm.store": ("RunReader",),
    "genprm.config": (
        "DpoConfig",
        "EngineConfig",
        "ExecutorConfig",
        "GrpoConfig",
        "LabelConfig",
        "PrmConfig",
        "RefineConfig",
        "RunConfig",
        "SamplingConfig",
        "SandboxConfig",
        "ServeConfig",
        "SolutionsConfig",
        "TrainConfig",
        "VerifyConfig",
        "load_config",
    ),
    "genprm.records": (
        "NO_ERROR",
        "LabelledSolution",
        "Problem",
        "RefinementTrace",
        "Report",
        "Selection",
        "Solution",
        "SolutionLabels",
        "SolutionScores",
        "StepVerdict",
        "TrainingSample",
        "Verification",
        "VerifyItem",
        "Vote",
    ),
    "genprm.errors": (
        "ClusterError",
        "ConfigError",
        "ContextOverflow",
        "DataError",
        "EngineError",
        "EngineProtocolError",
        "EngineRequestError",
        "EngineTimeout",
        "EngineUnavailable",
        "GenPRMError",
        "GraderError",
        "MissingExtraError",
        "Overloaded",
        "RunIncomplete",
        "SandboxDied",
        "SandboxError",
        "SandboxUnavailable",
        "StoreError",
        "TrainingError",
        "UnknownReward",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genprm' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
