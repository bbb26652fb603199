"""What callers may give as a model: an engine, a URL, a packaged model, a folder or a hub id."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeGuard, TypeVar, cast

from pydantic import BaseModel

from genprm.config import EngineConfig, VerifyConfig
from genprm.config.load import merged
from genprm.engines import Engine, check_budget, make_engine, resolve_model
from genprm.errors import ConfigError
from genprm.rewards.discriminative.classifier import is_token_classifier
from genprm.rewards.genprm.card import verify_values

# No folder that one would name and no hub id ends its first part in a colon and a port.
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}(/.*)?", re.ASCII)

SectionT = TypeVar("SectionT", bound=BaseModel)
Model = Engine | EngineConfig | str | Path
"""An engine object, an engine's config, or a name: `http://...` or `HOST:PORT` for a server, `builtin:verifier`, a
folder, a hub id."""


def engine_config(model: EngineConfig | str | Path, *, name: str | None = None) -> EngineConfig:
    """The engine that a name stands for; for the folder of a token-classification model, the reward `discriminative`.

    Args:
        name: the served model's name, if `model` is a server's URL.

    Raises:
        ConfigError: an empty name, or something that is no model at all.
    """
    if isinstance(model, EngineConfig):
        return model
    if not isinstance(model, str | Path):
        raise ConfigError(
            f"a model cannot be {shortened(model)}",
            hint="Give an engine, a URL, a folder, a hub id or builtin:verifier.",
        )
    text = str(model).strip()
    if not text:
        raise ConfigError(
            "no model is named", hint="Give an engine, a URL, a folder, a hub id or builtin:verifier."
        )
    if "://" in text or _ADDRESS.fullmatch(text):
        options: dict[str, Any] = {"base_urls": text}
        return EngineConfig(kind="http", options=options | ({"model": name} if name else {}))
    options = {"model": text}
    if text.startswith("builtin:"):
        # The packaged models are tiny: one thread is quickest, and a busy machine does not slow it down.
        options |= {"device": "cpu", "threads": 1, "deterministic": True}
    elif is_token_classifier(Path(text).expanduser()):
        return EngineConfig(kind="discriminative", options=options)
    return EngineConfig(kind="local", options=options)


@asynccontextmanager
async def opened(model: Model, budget: tuple[str, int]) -> AsyncIterator[Engine]:
    """The engine behind a model; one that was made here is closed at the end, one that was given stays open.

    Args:
        budget: the config key of the tokens to be asked for, and how many.

    Raises:
        ConfigError: no model at all, or the budget leaves no token for a prompt.
    """
    key, tokens = budget
    if is_engine(model):
        check_budget(model, tokens, key)
        yield model
        return
    config = named(model)
    engine = make_engine(config.kind, **config.options)
    try:
        await engine.check()
        check_budget(engine, tokens, key)
        yield engine
    finally:
        await engine.aclose()


def is_engine(model: Model) -> TypeGuard[Engine]:
    """Whether a model is an engine object (and not an engine's class)."""
    return isinstance(model, Engine) and not isinstance(model, type)


def named(model: Model) -> EngineConfig:
    """The config of a model that is no engine object."""
    return engine_config(cast("EngineConfig | str | Path", model))


def verify_options(model: Model, options: VerifyConfig | None, **changes: Any) -> VerifyConfig:
    """Options of a verification: what the model's folder asks for, on that what `options` sets, then the changes.

    An engine object counts as the model that it describes. What nobody sets has its default.

    Args:
        changes: values of `VerifyConfig`; None leaves a value as it is.

    Raises:
        ConfigError: a value that is not allowed.
    """
    asked = given_section(options, VerifyConfig, "the options of a verification")
    facts = model.describe() if is_engine(model) else named(model).options
    name = facts.get("model")
    card = verify_values(resolve_model(name)) if isinstance(name, str) else {}
    given = asked.model_dump(mode="json", exclude_unset=True) if asked is not None else {}
    values = merged(card, given, VerifyConfig)
    values |= {key: value for key, value in changes.items() if value is not None}
    return checked(VerifyConfig, values)


def given_section(value: object, section: type[SectionT], what: str) -> SectionT | None:
    """A config section that a caller gave, or None if there is none.

    Raises:
        ConfigError: something else, a dictionary for example.
    """
    if value is None or isinstance(value, section):
        return value
    name = f"genprm.{section.__name__}"
    raise ConfigError(
        f"{what} cannot be {shortened(value)}",
        hint=f"Give {name}(**...) of that dictionary." if isinstance(value, dict) else f"Give {name}(...).",
    )


def shortened(value: object) -> str:
    """A value as messages quote it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def checked(section: type[SectionT], values: dict[str, Any]) -> SectionT:
    """A config section made of values; what is not allowed is one `ConfigError` that names the arguments."""
    from pydantic import ValidationError

    from genprm.config.explain import config_error

    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise config_error(error, section, "") from None
