"""Reading profiles: built-in ones by name, a user's own by path."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, overload

import yaml
from pydantic import ValidationError

from genprm.config.explain import config_error
from genprm.errors import ConfigError
from genprm.text.prompts.models import (
    PolicyProfile,
    Profile,
    RefineProfile,
    TeacherProfile,
    VerifierProfile,
)

P = TypeVar("P", bound=Profile)

CARD = "genprm.json"
"""The file beside a trained model's weights that holds the profile which it is asked with."""

_KINDS: dict[str, type[Profile]] = {
    "verifier": VerifierProfile,
    "teacher": TeacherProfile,
    "policy": PolicyProfile,
    "refine": RefineProfile,
}


@lru_cache(maxsize=1)
def list_profiles() -> tuple[str, ...]:
    """Names of the built-in profiles, sorted."""
    folder = files("genprm.text.prompts") / "profiles"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


@overload
def load_profile(name_or_path: str) -> Profile: ...
@overload
def load_profile(name_or_path: str, kind: type[P]) -> P: ...
def load_profile(name_or_path: str, kind: type[Profile] = Profile) -> Profile:
    """The profile of a name or a file.

    Args:
        name_or_path: a built-in name, or the path of a YAML or JSON file.
        kind: the profile class needed, for example `VerifierProfile`.

    Raises:
        ConfigError: no such profile, an unreadable file, a wrong field, or a profile of another kind.
    """
    if name_or_path in list_profiles():
        profile = _built_in(name_or_path)
    elif name_or_path.endswith((".yaml", ".yml", ".json")) or "/" in name_or_path:
        profile = _from_path(Path(name_or_path))
    else:
        close = difflib.get_close_matches(name_or_path, list_profiles(), n=1, cutoff=0.5)
        known = ", ".join(list_profiles())
        raise ConfigError(
            f"there is no prompt profile named '{name_or_path}'",
            hint=f"did you mean '{close[0]}'?"
            if close
            else f"known profiles: {known}; or give a file's path",
        )
    if not isinstance(profile, kind):
        wanted = next(name for name, cls in _KINDS.items() if cls is kind)
        fitting = [name for name in list_profiles() if isinstance(_built_in(name), kind)]
        raise ConfigError(
            f"profile '{name_or_path}' is a {profile.kind} profile; a {wanted} profile is needed here",
            hint=f"built-in {wanted} profiles: {', '.join(fitting)}",
        )
    return profile


@lru_cache(maxsize=32)
def _built_in(name: str) -> Profile:
    return _parse(_built_in_text(name), where=f"profile '{name}'")


def _built_in_text(name: str) -> str:
    return (files("genprm.text.prompts") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")


def _from_path(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the prompt profile {path}: {error}",
            hint=f"built-in: {', '.join(list_profiles())}",
        ) from error
    return _parse(text, where=str(path))


def _fields(text: str, where: str) -> Any:
    """The fields of a profile's text, those of the built-in profile that it extends included.

    Raises:
        ConfigError: no valid YAML, or an unknown profile to extend.
    """
    try:
        data: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from error
    if isinstance(data, dict) and isinstance(data.get("profile"), dict):
        data = data["profile"]  # the `genprm.json` beside a trained model
    if not isinstance(data, dict) or "extends" not in data:
        return data
    base = data["extends"]
    if base not in list_profiles():
        raise ConfigError(
            f"{where} extends '{base}', which is not a built-in profile",
            hint=f"built-in: {', '.join(list_profiles())}",
        )
    own = {name: value for name, value in data.items() if name != "extends"}
    return {**_fields(_built_in_text(base), f"profile '{base}'"), **own}


def _parse(text: str, where: str) -> Profile:
    data = _fields(text, where)
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in _KINDS:
        raise ConfigError(f"{where} has no known 'kind'", hint=f"kind is one of {', '.join(_KINDS)}")
    try:
        return _KINDS[kind].model_validate(data)
    except ValidationError as error:
        raise config_error(error, _KINDS[kind], where) from None
