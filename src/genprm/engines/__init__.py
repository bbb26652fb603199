"""Language model engines behind one async protocol (`genprm.engines.base.Engine`).

`make_engine(kind, **options)` builds one by name; a kind's module is imported when it is first asked for.
`engine_identity(config)` says what decides an engine's completions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from genprm.engines.base import (
    Completion,
    Engine,
    EngineBase,
    FinishReason,
    Request,
    SamplingParams,
)
from genprm.engines.models import MODELS, register_model, resolve_model
from genprm.engines.table import ENGINES, check_options, engine_class, make_engine, register_engine
from genprm.engines.tokens import TokenLogprob

if TYPE_CHECKING:
    from genprm.engines.budgets import check_budget as check_budget
    from genprm.engines.budgets import check_declared_budget as check_declared_budget
    from genprm.engines.cache import CachedEngine as CachedEngine
    from genprm.engines.guidance import advice as advice
    from genprm.engines.http import HttpEngine as HttpEngine
    from genprm.engines.identity import engine_identity as engine_identity
    from genprm.engines.llama_server import LlamaServer as LlamaServer
    from genprm.engines.local import LocalEngine as LocalEngine
    from genprm.engines.replicas import ReplicatedEngine as ReplicatedEngine
    from genprm.engines.scripted import Scripted as Scripted
    from genprm.engines.scripted import ScriptedEngine as ScriptedEngine
    from genprm.engines.vllm import VllmEngine as VllmEngine

_LAZY = {
    "CachedEngine": "genprm.engines.cache",
    "HttpEngine": "genprm.engines.http",
    "LlamaServer": "genprm.engines.llama_server",
    "LocalEngine": "genprm.engines.local",
    "ReplicatedEngine": "genprm.engines.replicas",
    "Scripted": "genprm.engines.scripted",
    "ScriptedEngine": "genprm.engines.scripted",
    "VllmEngine": "genprm.engines.vllm",
    "advice": "genprm.engines.guidance",
    "check_budget": "genprm.engines.budgets",
    "check_declared_budget": "genprm.engines.budgets",
    "engine_identity": "genprm.engines.identity",
}

__all__ = [
    "ENGINES",
    "MODELS",
    "CachedEngine",
    "Completion",
    "Engine",
    "EngineBase",
    "FinishReason",
    "HttpEngine",
    "LlamaServer",
    "LocalEngine",
    "ReplicatedEngine",
    "Request",
    "SamplingParams",
    "Scripted",
    "ScriptedEngine",
    "TokenLogprob",
    "VllmEngine",
    "advice",
    "check_budget",
    "check_declared_budget",
    "check_options",
    "engine_class",
    "engine_identity",
    "make_engine",
    "register_engine",
    "register_model",
    "resolve_model",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'genprm.engines' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)
