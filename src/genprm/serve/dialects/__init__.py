"""The dialects of RL trainers and of reward model servers."""

from __future__ import annotations

from typing import Any

from genprm.serve.dialects import nemo_gym, openrlhf, slime, vllm
from genprm.serve.dialects.base import Asked, Dialect, Reply, Result

DIALECTS: tuple[Dialect[Any], ...] = (
    openrlhf.DIALECT,
    slime.DIALECT,
    nemo_gym.DIALECT,
    vllm.POOLING,
    vllm.CLASSIFY,
)

__all__ = ["DIALECTS", "Asked", "Dialect", "Reply", "Result"]
