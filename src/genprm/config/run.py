"""The config of a whole run, and how it is read: defaults <- YAML <- dotted overrides."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from genprm.config.models import (
    EngineConfig,
    FilterConfig,
    LabelConfig,
    MonteCarloConfig,
    ProblemsConfig,
    RationaleConfig,
    SandboxConfig,
    Section,
    SolutionsConfig,
    TrainConfig,
    VerifyConfig,
)
from genprm.errors import ConfigError


class StoreConfig(Section):
    """How a run directory is written.

    Attributes:
        shard_size: items a shard; what a killed run repeats at most.
        format: of the rows of each shard.
    """

    shard_size: int = Field(default=256, gt=0)
    format: typing.Literal["jsonl", "parquet"] = "jsonl"


class RolesConfig(Section):
    """Which engine plays which role. The completer is the policy unless it is given."""

    policy: EngineConfig = EngineConfig()
    completer: EngineConfig | None = None
    teacher: EngineConfig = EngineConfig()


class RunConfig(Section):
    """Everything that decides what a run computes, apart from where it is written."""

    seed: int = 0
    concurrency: int = Field(default=256, gt=0, description="engine requests in flight")
    problems: ProblemsConfig = ProblemsConfig()
    roles: RolesConfig = RolesConfig()
    sandbox: SandboxConfig = SandboxConfig()
    solutions: SolutionsConfig = SolutionsConfig()
    montecarlo: MonteCarloConfig = MonteCarloConfig()
    label: LabelConfig = LabelConfig()
    rationales: RationaleConfig = RationaleConfig()
    filter: FilterConfig = FilterConfig()
    train: TrainConfig = TrainConfig()
    verify: VerifyConfig = VerifyConfig()
    store: StoreConfig = StoreConfig()


ConfigT = typing.TypeVar("ConfigT", bound=Section)


def load_config(
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    model: type[ConfigT],
    base: dict[str, Any] | None = None,
) -> ConfigT:
    """Read a config.

    Args:
        path: a YAML file, or None for the defaults alone.
        overrides: `section.key=value` strings; values are read as YAML.
        model: the section to fill, usually `RunConfig`.
        base: values below the file's, for built-in recipes.

    Raises:
        ConfigError: naming the file or the override, the key, and the nearest right key.
    """
    values: dict[str, Any] = {}
    if base:
        _merge(values, base)
    if path is not None:
        _merge(values, _read_yaml(path))
    for override in overrides:
        _merge(values, _parse_override(override))
    place = str(path) if path is not None else "config"
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explain(error, model, place) from None


def dump_config(config: BaseModel) -> str:
    """The resolved config as YAML; reading it again gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the config file {path}: {error.strerror or error}",
            hint="Give the path of a YAML file; the recipes/ folder has examples.",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", hint="A config is a YAML file.") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not a mapping of sections")
    return values


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip() or any(not part for part in key.strip().split(".")):
        raise ConfigError(
            f"the override {override!r} is not of the form section.key=value",
            hint="For example: label.ratio=0.7",
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of the override {override!r} is not valid YAML") from None
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def _merge(target: dict[str, Any], source: dict[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, dict) else value


def _explain(error: ValidationError, model: type[BaseModel], place: str) -> ConfigError:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known keys here: {', '.join(sorted(known))}."
        return ConfigError(f"{place}: unknown key '{key}'{more}", hint=hint)
    given = repr(first.get("input"))
    shown = given if len(given) <= 60 else given[:57] + "..."
    return ConfigError(f"{place}: '{key}' cannot be {shown}: {first['msg']}{more}")


def _keys_at(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            return []
        candidates = _models_in(field.annotation)
        if not candidates:
            return []
        model = candidates[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []
