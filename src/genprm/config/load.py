"""How a config is read: defaults <- base <- YAML file <- overrides. All mistakes of a file are reported at once."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from genprm.config.explain import Mistake, cut_short, described, mistakes_of
from genprm.config.mistakes import all_mistakes
from genprm.config.models import Section
from genprm.config.plain_yaml import read_yaml
from genprm.errors import ConfigError

ConfigT = typing.TypeVar("ConfigT", bound=Section)


def load_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    model: type[ConfigT],
    base: dict[str, Any] | None = None,
) -> ConfigT:
    """Read a config.

    Sections are merged key by key; every other value, mappings such as `roles.policy.options` included,
    replaces the one below it. An override may also name one key of a mapping (`roles.policy.options.model=m`).

    Args:
        path: a YAML file, or None for the defaults alone.
        overrides: `section.key=value` strings; values are read as YAML.
        model: the section to fill, usually `RunConfig`.
        base: values below the file's, for built-in recipes.

    Raises:
        ConfigError: naming the file or the override and, for every wrong key, the nearest right one.
    """
    values: dict[str, Any] = {}
    if base:
        _merge(values, base, model)
    if path is not None:
        _merge(values, read_sections(Path(path)), model)
    for override in overrides:
        _override(values, override, model)
    place = str(path) if path is not None else "config"
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explain(error, model, place, overrides) from None


def merged(below: dict[str, Any], above: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Values of a section on those below them, as `load_config` merges: sections key by key, everything else whole."""
    values: dict[str, Any] = {}
    for source in (below, above):
        _merge(values, source, model)
    return values


def dump_config(config: BaseModel) -> str:
    """The resolved config as YAML; reading it again gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_sections(path: Path) -> dict[str, Any]:
    """What a config file says, not yet checked.

    Raises:
        ConfigError: it cannot be read, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read the config file {path}: {error.strerror or error}",
            hint="Give the path of a YAML file; the recipes/ folder has examples.",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", hint="A config is a YAML file.") from None
    try:
        values = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not a mapping of sections")
    return values


def _override(target: dict[str, Any], override: str, model: type[BaseModel]) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(
            f"the override {override!r} is not of the form section.key=value",
            hint="For example: label.ratio=0.7",
        )
    try:
        value = read_yaml(text)
    except ValueError as error:
        raise ConfigError(
            f"the value of the override '{key.strip()}={cut_short(text)}' is not valid YAML",
            hint=str(error),
        ) from None
    for part in parts[:-1]:
        inner = target.get(part)
        target[part] = dict(inner) if isinstance(inner, dict) else {}
        target = target[part]
        model = _section_at(model, part) or Section
    _merge(target, {parts[-1]: value}, model)


def _merge(target: dict[str, Any], source: dict[str, Any], model: type[BaseModel]) -> None:
    for key, value in source.items():
        section = _section_at(model, str(key))
        if section is not None and isinstance(value, dict) and isinstance(target.get(key), dict):
            target[key] = dict(target[key])
            _merge(target[key], value, section)
        else:
            target[key] = dict(value) if isinstance(value, dict) else value


def _section_at(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    field = model.model_fields.get(key)
    found = _models_in(field.annotation) if field is not None else []
    return found[0] if found else None


def _explain(
    error: ValidationError, model: type[BaseModel], place: str, overrides: Sequence[str]
) -> ConfigError:
    """All mistakes, each with the override that it came by; those without one are the file's."""
    found = mistakes_of(error, model)
    mistakes = [described(mistake, model) for mistake in found]
    sources = [_override_of(mistake, overrides) for mistake in found]
    if len(set(sources)) == 1:
        return all_mistakes(sources[0] or place, mistakes)
    named = [
        ConfigError(f"{source}: {one.message}", hint=one.hint) if source else one
        for source, one in zip(sources, mistakes, strict=True)
    ]
    return all_mistakes(place, named)


def _override_of(mistake: Mistake, overrides: Sequence[str]) -> str:
    """The last override that made a mistake, named for messages, or the empty text."""
    for override in reversed(overrides):
        if _made(mistake, override.partition("=")[0].strip()):
            return f"the override '{cut_short(override)}'"
    return ""


def _made(mistake: Mistake, name: str) -> bool:
    """Whether an override of this name made a mistake: it set the key, or, below it, one that the mistake is about."""
    if f"{mistake.key}.".startswith(f"{name}."):
        return True
    if mistake.place and not name.startswith(f"{mistake.key}."):
        return False
    below = name.split(".")[len(mistake.place) :]
    return mistake.unknown or any(part in re.findall(r"\w+", mistake.rule) for part in below)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []
