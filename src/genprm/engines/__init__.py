"""Language model engines behind one async protocol (`genprm.engines.base.Engine`).

`make_engine(kind, **options)` builds one by name; a kind's module is imported when it is first asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from genprm.engines.base import (
    Completion,
    Engine,
    FinishReason,
    Request,
    SamplingParams,
    TokenLogprob,
)
from genprm.errors import ConfigError

if TYPE_CHECKING:
    from genprm.engines.cache import CachedEngine as CachedEngine
    from genprm.engines.http import HttpEngine as HttpEngine
    from genprm.engines.llama_server import LlamaServer as LlamaServer
    from genprm.engines.local import LocalEngine as LocalEngine
    from genprm.engines.replicas import ReplicatedEngine as ReplicatedEngine
    from genprm.engines.scripted import Scripted as Scripted
    from genprm.engines.scripted import ScriptedEngine as ScriptedEngine
    from genprm.engines.vllm import VllmEngine as VllmEngine

ENGINES: dict[str, str] = {
    "http": "genprm.engines.http:HttpEngine",
    "local": "genprm.engines.local:LocalEngine",
    "replicated": "genprm.engines.replicas:ReplicatedEngine",
    "scripted": "genprm.engines.scripted:ScriptedEngine",
    "vllm": "genprm.engines.vllm:VllmEngine",
}

_LAZY = {
    "CachedEngine": "genprm.engines.cache",
    "HttpEngine": "genprm.engines.http",
    "LlamaServer": "genprm.engines.llama_server",
    "LocalEngine": "genprm.engines.local",
    "ReplicatedEngine": "genprm.engines.replicas",
    "Scripted": "genprm.engines.scripted",
    "ScriptedEngine": "genprm.engines.scripted",
    "VllmEngine": "genprm.engines.vllm",
}

__all__ = [
    "ENGINES",
    "CachedEngine",
    "Completion",
    "Engine",
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
    "engine_class",
    "make_engine",
    "register_engine",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'genprm.engines' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)


def register_engine(kind: str, target: str) -> None:
    """Make `kind` known; `target` is `"package.module:Callable"`, imported when first used."""
    if ":" not in target:
        raise ConfigError(f"the engine target '{target}' has no ':'", hint="write 'package.module:Class'")
    ENGINES[kind] = target


def engine_class(kind: str) -> Any:
    """The class (or factory) behind a kind; an unknown kind is a `ConfigError` with a suggestion."""
    target = ENGINES.get(kind)
    if target is None:
        close = difflib.get_close_matches(kind, ENGINES, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError(
            f"unknown engine kind '{kind}'", hint=f"{meant}known kinds: {', '.join(sorted(ENGINES))}"
        )
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_engine(kind: str, **options: Any) -> Engine:
    """Build an engine. Option names are the constructor's; an unknown one is a `ConfigError`."""
    factory = engine_class(kind)
    known = inspect.signature(factory).parameters
    passes_on = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
    for option in options:
        if option not in known and not passes_on:
            close = difflib.get_close_matches(option, known, n=1)
            meant = f"did you mean '{close[0]}'? " if close else ""
            raise ConfigError(
                f"the engine '{kind}' has no option '{option}'", hint=f"{meant}options: {', '.join(known)}"
            )
    missing = [
        name
        for name, parameter in known.items()
        if parameter.default is parameter.empty and parameter.kind in _NAMED and name not in options
    ]
    if missing:
        raise ConfigError(
            f"the engine '{kind}' needs the option '{missing[0]}'", hint=f"options: {', '.join(known)}"
        )
    engine: Engine = factory(**options)
    return engine


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
