"""What decides an engine's completions: the same answer for shard keys, the completion cache and training."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genprm.config.models import EngineConfig
from genprm.engines.base import Engine, EngineBase
from genprm.engines.models import resolve_model
from genprm.engines.table import engine_class, option_defaults
from genprm.errors import ConfigError
from genprm.identity import model_identity

# Facts of `Engine.describe` that are no options and change while an engine works, or follow from the model.
_NO_DECIDING_FACTS = frozenset({"missing", "parameters"})


def engine_identity(config: EngineConfig) -> list[Any]:
    """What decides the completions of the engine that a config describes.

    Returns:
        The kind, and every option that can change a completion, those left at their defaults included; a list that
        JSON can hold. Models and tokenizers on this machine are named by the content of their files, so that
        a checkpoint which is trained anew at the same path is another one. Options that change no completion
        (`EngineBase.neutral_options`, `neutral_when`) are left out.

    Raises:
        ConfigError: an unknown kind or packaged model, or an option that has no plain value.
        DataError: a packaged model whose files are not installed.
    """
    return options_identity(config.kind, engine_class(config.kind), config.options)


def options_identity(kind: str, factory: Any, options: Mapping[str, Any]) -> list[Any]:
    """`engine_identity` of whatever a factory makes of options."""
    defaults = {
        name: default
        for name, default in option_defaults(factory).items()
        if default is not inspect.Parameter.empty
    }
    return _identity(kind, factory, {**defaults, **options})


def described_identity(engine: Engine) -> list[Any]:
    """What decides the completions of an engine that was made by hand, going by `Engine.describe`.

    It is complete once `check` has succeeded; before that an engine may not know its own model.

    Raises:
        ConfigError: a fact that has no plain value.
    """
    facts = {"name": engine.name, **engine.describe()}
    chosen = {name: value for name, value in facts.items() if name not in _NO_DECIDING_FACTS}
    return _identity(str(chosen.pop("kind", "")), type(engine), chosen)


def _identity(kind: str, factory: Any, options: Mapping[str, Any]) -> list[Any]:
    copied = getattr(factory, "copies", None)
    neutral = set(getattr(factory, "neutral_options", EngineBase.neutral_options))
    for condition, names in getattr(factory, "neutral_when", EngineBase.neutral_when).items():
        if options.get(condition):
            neutral |= names
    if copied is not None and options.get("deterministic"):
        # Copies that each write what one engine writes are that engine.
        kind = copied.kind
    contents = getattr(factory, "content_options", EngineBase.content_options)
    deciding = {
        name: _content(value) if name in contents else _plain(kind, name, value)
        for name, value in sorted(options.items())
        if name not in neutral
    }
    return [kind, deciding]


def _content(model: Any) -> Any:
    return model_identity(resolve_model(str(model))) if isinstance(model, (str, Path)) else model


def _plain(kind: str, name: str, value: Any) -> Any:
    """A value as what JSON can hold; a function is known by its name."""
    if callable(value):
        return f"{value.__module__}:{getattr(value, '__qualname__', type(value).__qualname__)}"
    if isinstance(value, Path):
        return str(value)
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        raise ConfigError(
            f"the option '{name}' of the engine '{kind}' is a {type(value).__name__}, which nothing identifies",
            hint="give it as a string, a number, or a list or mapping of those",
        ) from None
