"""What pydantic finds wrong, in words that a user can act on."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from genprm.config.mistakes import all_mistakes
from genprm.errors import ConfigError

_KINDS = {
    "string": "a text",
    "tuple": "a list",
    "list": "a list",
    "set": "a list",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "dict": "a mapping",
    "model": "a mapping",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake.

    Attributes:
        place: its keys and indices, from the outside in; empty for the whole.
        unknown: whether the last key is one that does not exist.
        problem: what the value there must be, as "must be a list" or "is missing"; empty for an unknown key, and for
            a rule of the model's own.
        rule: such a rule in its own words, a sentence; else empty.
        value: what was given.
    """

    place: tuple[str | int, ...]
    unknown: bool = False
    problem: str = ""
    rule: str = ""
    value: Any = None

    @property
    def key(self) -> str:
        """The place as configs write it."""
        return ".".join(str(part) for part in self.place)


def mistakes_of(error: ValidationError, model: type[BaseModel], most: int | None = None) -> list[Mistake]:
    """The mistakes in values for a model, in order. What fits none of several kinds of value is one mistake.

    Args:
        most: how many of pydantic's errors are looked at, the first ones; all unless given.
    """
    found: dict[tuple[tuple[str | int, ...], bool], Mistake] = {}
    for entry in error.errors(include_url=False)[:most]:
        unknown = entry["type"] in ("extra_forbidden", "invalid_key")
        location = [part for part in entry["loc"] if part != "[key]"]
        place = (*_place(model, location[:-1]), location[-1]) if unknown else _place(model, location)
        value = entry.get("input")
        if entry["type"] == "too_short" and any(known[: len(place)] == place for known, _ in found):
            continue  # entries that cannot be used are not counted
        if unknown:
            mistake = Mistake(place, unknown=True, value=value)
        elif entry["type"] in ("value_error", "assertion_error"):
            mistake = Mistake(place, rule=entry["msg"].partition(", ")[2] or entry["msg"], value=value)
        else:
            mistake = Mistake(place, problem=_problem(dict(entry)), value=value)
        known = found.get((place, unknown))
        if known is not None and known.problem and mistake.problem:
            problem = f"{known.problem} or {mistake.problem.removeprefix('must be ')}"
            mistake = Mistake(place, problem=problem, value=known.value)
        found[place, unknown] = mistake
    return list(found.values())


def config_error(error: ValidationError, model: type[BaseModel], place: str) -> ConfigError:
    """All mistakes in a config as one error.

    Args:
        place: begins the message: a file, or what was to be made; may be empty.
    """
    return all_mistakes(place, [described(mistake, model) for mistake in mistakes_of(error, model)])


def described(mistake: Mistake, model: type[BaseModel]) -> ConfigError:
    """One mistake in a config as an error, whose hint names what may have been meant by an unknown key."""
    if mistake.unknown:
        return ConfigError(f"unknown key '{mistake.key}'", hint=nearest(model, mistake))
    if mistake.problem == "is missing":
        return ConfigError(f"'{mistake.key}' is missing")
    # A rule of a section names the keys that it is about.
    if mistake.rule and isinstance(mistake.value, dict):
        return ConfigError(f"{mistake.key}: {mistake.rule}" if mistake.place else mistake.rule)
    said = mistake.rule or f"it {mistake.problem}"
    shown = cut_short(repr(mistake.value))
    return ConfigError(f"'{mistake.key}' cannot be {shown}: {said}" if mistake.place else said)


def nearest(model: type[BaseModel], mistake: Mistake) -> str:
    """What may have been meant by an unknown key: it in a section, what is in it without it, or one spelt alike.

    Without any of these, the keys that exist there; empty if none are known.
    """
    key, value = str(mistake.place[-1]), mistake.value
    known = known_keys(model, mistake.place[:-1])
    if len(mistake.place) == 1:
        meant = [f"'{name}.{key}'" for name in known if key in known_keys(model, [name])]
        if meant:
            return f"Did you mean {' or '.join(meant)}?"
        if isinstance(value, dict) and value and value.keys() <= set(known):
            return f"Leave out '{key}': here its keys stand alone, such as '{next(iter(value))}'."
    near = difflib.get_close_matches(key[:100], known, n=1)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known keys here: {', '.join(sorted(known))}." if known else ""


def known_keys(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """The keys that there are at a place; empty if any key may stand there."""
    annotation: Any = model
    for part in place:
        annotation = _inside(annotation, part)
    return [key for found in _kinds(annotation) if _is_model(found) for key in found.model_fields]


def cut_short(text: str) -> str:
    """A text as messages quote it."""
    return text if len(text) <= 60 else text[:57] + "..."


def _problem(entry: dict[str, Any]) -> str:
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        least = context["min_length"]
        return f"must have at least {least} {'entry' if least == 1 else 'entries'}"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters"
    if kind == "model_type" and entry["msg"] == "Input should be an object":
        return "must be an object"  # that is JSON's word
    what, _, how = kind.partition("_")
    if what in _KINDS and how in ("type", "parsing", "from_float", "attributes_type"):
        return f"must be {_KINDS[what]}"
    message: str = entry["msg"]
    begin, _, rest = message.partition("should be ")
    return f"must be {rest}" if begin == "Input " else f"cannot be used: {message}"


def _place(model: type[BaseModel], location: Sequence[str | int]) -> tuple[str | int, ...]:
    """A location without pydantic's names for the kinds of value that it tried."""
    annotation: Any = model
    kept: list[str | int] = []
    for part in location:
        inside = _inside(annotation, part)
        several = len(_kinds(annotation)) > 1 and inside is None
        if several and isinstance(part, str):
            continue
        kept.append(part)
        annotation = inside
    return tuple(kept)


def _inside(annotation: Any, part: str | int) -> Any:
    """The type of what stands under a key or an index; None if that is not known."""
    for kind in _kinds(annotation):
        if _is_model(kind):
            field = kind.model_fields.get(str(part))
            if field is not None:
                return field.annotation
        elif isinstance(part, int) and typing.get_origin(kind) in (tuple, list):
            return typing.get_args(kind)[0]
        elif typing.get_origin(kind) is dict:
            return typing.get_args(kind)[1]
    return None


def _kinds(annotation: Any) -> list[Any]:
    """The types of a union, None apart; of anything else that alone."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(annotation) for kind in _kinds(part)]
    return [] if annotation in (None, type(None)) else [annotation]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
