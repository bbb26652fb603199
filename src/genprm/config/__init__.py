"""Typed configs: pydantic sections, read from YAML with dotted overrides."""

from genprm.config.load import dump_config, load_config
from genprm.config.models import (
    ChatsConfig,
    Components,
    EngineConfig,
    LabelConfig,
    LabelMethod,
    MonteCarloConfig,
    ProblemsConfig,
    RationaleConfig,
    RefineConfig,
    SamplingConfig,
    SandboxConfig,
    Section,
    SolutionsConfig,
    TrainConfig,
    VerifyConfig,
)
from genprm.config.prm import PrmConfig
from genprm.config.quickstart import EvaluationConfig, QuickstartConfig
from genprm.config.rl import DpoConfig, GrpoConfig
from genprm.config.run import ExecutorConfig, RolesConfig, RunConfig, StoreConfig
from genprm.config.serve import KeyLimits, ServeConfig, StrategyConfig
from genprm.config.stored import read_run_config

__all__ = [
    "ChatsConfig",
    "Components",
    "DpoConfig",
    "EngineConfig",
    "EvaluationConfig",
    "ExecutorConfig",
    "GrpoConfig",
    "KeyLimits",
    "LabelConfig",
    "LabelMethod",
    "MonteCarloConfig",
    "PrmConfig",
    "ProblemsConfig",
    "QuickstartConfig",
    "RationaleConfig",
    "RefineConfig",
    "RolesConfig",
    "RunConfig",
    "SamplingConfig",
    "SandboxConfig",
    "Section",
    "ServeConfig",
    "SolutionsConfig",
    "StoreConfig",
    "StrategyConfig",
    "TrainConfig",
    "VerifyConfig",
    "dump_config",
    "load_config",
    "read_run_config",
]
