"""The table of engines: from a kind's name in a config to the class that makes one."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from genprm.engines.base import Engine
from genprm.errors import ConfigError
from genprm.plugins import load_plugins

ENGINES: dict[str, str] = {
    "http": "genprm.engines.http:HttpEngine",
    "local": "genprm.engines.local:LocalEngine",
    "replicated": "genprm.engines.replicas:ReplicatedEngine",
    "scripted": "genprm.engines.scripted:ScriptedEngine",
    "vllm": "genprm.engines.vllm:VllmEngine",
}

_FROM_PYTHON = "scripted"
"""The kind whose option is a function, which no config can hold."""
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def register_engine(kind: str, target: str) -> None:
    """Make `kind` known; `target` is `"package.module:Callable"`, imported when first used."""
    if ":" not in target:
        raise ConfigError(f"the engine target '{target}' has no ':'", hint="write 'package.module:Class'")
    ENGINES[kind] = target


def engine_class(kind: str, others: Iterable[str] = ()) -> Any:
    """The class (or factory) behind a kind; plugins are asked for one that is not known.

    Args:
        others: kinds of something else that could have been meant, for the hint.

    Raises:
        ConfigError: nobody knows the kind; the hint suggests one.
    """
    if kind not in ENGINES:
        load_plugins()
    target = ENGINES.get(kind)
    if target is None:
        known = sorted({*ENGINES, *others} - {_FROM_PYTHON})
        close = difflib.get_close_matches(kind, known, n=1)
        meant = f"Did you mean '{close[0]}'? " if close else ""
        raise ConfigError(f"unknown engine kind '{kind}'", hint=f"{meant}Known kinds: {', '.join(known)}.")
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def option_defaults(factory: Any) -> dict[str, Any]:
    """An engine's options with their defaults, `inspect.Parameter.empty` for one that has to be given.

    An engine that keeps copies of another one (`EngineBase.copies`) takes that one's options too.
    """
    copied = getattr(factory, "copies", None)
    found = option_defaults(copied) if copied is not None else {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind in _NAMED:
            found[name] = parameter.default
    return found


def takes_other_options(factory: Any) -> bool:
    """Whether an engine passes options that it does not name on to somebody else."""
    if getattr(factory, "copies", None) is not None:
        return False
    parameters = inspect.signature(factory).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def make_engine(kind: str, **options: Any) -> Engine:
    """Build an engine. Option names are the constructor's.

    Raises:
        ConfigError: an unknown kind or option, or one that is missing; the hint suggests what was meant.
    """
    check_options(kind, options)
    engine: Engine = engine_class(kind)(**options)
    return engine


def check_options(kind: str, options: Mapping[str, Any], others: Iterable[str] = ()) -> None:
    """Raise what `make_engine` would raise for its arguments, without making an engine.

    Args:
        others: see `engine_class`.

    Raises:
        ConfigError: an unknown kind or option, or one that is missing; the hint suggests what was meant.
    """
    check_factory_options(f"engine '{kind}'", engine_class(kind, others), options)


def check_factory_options(what: str, factory: Any, options: Mapping[str, Any]) -> None:
    """Raise unless a factory takes these options.

    Args:
        what: names the factory in messages, for example `engine 'http'`.

    Raises:
        ConfigError: an unknown option, or one that is missing; the hint suggests what was meant.
    """
    known = option_defaults(factory)
    for option in options:
        if option not in known and not takes_other_options(factory):
            close = difflib.get_close_matches(option, known, n=1)
            meant = f"Did you mean '{close[0]}'? " if close else ""
            raise ConfigError(
                f"the {what} has no option '{option}'", hint=f"{meant}Options: {', '.join(known)}."
            )
    for name, default in known.items():
        if default is inspect.Parameter.empty and name not in options:
            raise ConfigError(f"the {what} needs the option '{name}'", hint=f"Options: {', '.join(known)}.")
