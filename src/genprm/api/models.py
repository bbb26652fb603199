"""What callers may give as a model: an engine, a URL, a packaged model, a folder or a hub id."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel

from genprm.config import EngineConfig, VerifyConfig
from genprm.engines import Engine, make_engine, resolve_model
from genprm.errors import ConfigError
from genprm.rewards.genprm.card import verify_values

# No folder that one would name and no hub id ends its first part in a colon and a port.
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}(/.*)?", re.ASCII)

SectionT = TypeVar("SectionT", bound=BaseModel)
Model = Engine | EngineConfig | str
"""An engine object, an engine's config, or a name: `http://...` or `HOST:PORT` for a server, `builtin:verifier`, a
folder, a hub id."""


def engine_config(model: EngineConfig | str, *, name: str | None = None) -> EngineConfig:
    """The engine that a name stands for.

    Args:
        name: the served model's name, if `model` is a server's URL.

    Raises:
        ConfigError: an empty name.
    """
    if isinstance(model, EngineConfig):
        return model
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
    return EngineConfig(kind="local", options=options)


@asynccontextmanager
async def opened(model: Model) -> AsyncIterator[Engine]:
    """The engine behind a model; one that was made here is closed at the end, one that was given stays open."""
    if isinstance(model, EngineConfig | str):
        config = engine_config(model)
        engine = make_engine(config.kind, **config.options)
        try:
            await engine.check()
            yield engine
        finally:
            await engine.aclose()
    else:
        yield model


def verify_options(model: Model, options: VerifyConfig | None, **changes: Any) -> VerifyConfig:
    """Options of a verification: those given, else those that the model's folder asks for; then the changes.

    An engine object counts as the model that it describes.

    Args:
        changes: values of `VerifyConfig`; None leaves a value as it is.

    Raises:
        ConfigError: a value that is not allowed.
    """
    values: dict[str, Any] = {}
    if options is not None:
        values = options.model_dump(mode="json")
    else:
        facts = engine_config(model).options if isinstance(model, EngineConfig | str) else model.describe()
        name = facts.get("model")
        values = verify_values(resolve_model(name)) if isinstance(name, str) else {}
    values |= {key: value for key, value in changes.items() if value is not None}
    return checked(VerifyConfig, values)


def checked(section: type[SectionT], values: dict[str, Any]) -> SectionT:
    """A config section made of values; what is not allowed is one `ConfigError` that names the argument."""
    from pydantic import ValidationError

    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"'{place}' cannot be {first.get('input')!r}: {first['msg']}") from None
