"""Typed configs: pydantic sections, read from YAML with dotted overrides."""

from genprm.config.models import (
    Components,
    EngineConfig,
    FilterConfig,
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
from genprm.config.run import RolesConfig, RunConfig, StoreConfig, dump_config, load_config

__all__ = [
    "Components",
    "EngineConfig",
    "FilterConfig",
    "LabelConfig",
    "LabelMethod",
    "MonteCarloConfig",
    "ProblemsConfig",
    "RationaleConfig",
    "RefineConfig",
    "RolesConfig",
    "RunConfig",
    "SamplingConfig",
    "SandboxConfig",
    "Section",
    "SolutionsConfig",
    "StoreConfig",
    "TrainConfig",
    "VerifyConfig",
    "dump_config",
    "load_config",
]
