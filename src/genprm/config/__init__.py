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
    "SamplingConfig",
    "SandboxConfig",
    "Section",
    "SolutionsConfig",
    "TrainConfig",
    "VerifyConfig",
]
