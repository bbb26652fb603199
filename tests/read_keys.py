"""Watches which keys of a config are read, and by whom: a key that only the config package touches has no reader."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import genprm
from genprm.config import Section

_SOURCE = Path(genprm.__file__).parent
_CONFIG = str(_SOURCE / "config")
_IDENTITY = str(_SOURCE / "identity.py")


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds, if it holds one."""
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, Section):
            return part
    return None


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Every key of a section: its dotted path, the section that has it, and its name there."""
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None:
            yield prefix + name, model, name
        else:
            yield from leaves(inner, f"{prefix}{name}.")


class Reads:
    """What was read of one config, and of copies of its sections."""

    def __init__(self, config: Section) -> None:
        self._config = config
        self._places: dict[int, str] = {}
        self._paths: set[str] = set()
        self._copies: set[tuple[type[BaseModel], str]] = set()
        self._place(config, "")

    def _place(self, section: Section, prefix: str) -> None:
        # Defaults are shared between sections: each place gets a section of its own.
        self._places[id(section)] = prefix
        for name in type(section).model_fields:
            inner = section.__dict__[name]
            if isinstance(inner, Section):
                own = inner.model_copy()
                section.__dict__[name] = own
                self._place(own, f"{prefix}{name}.")

    def note(self, section: Section, name: str) -> None:
        """A reader has read a key."""
        prefix = self._places.get(id(section))
        if prefix is None:
            self._copies.add((type(section), name))
        else:
            self._paths.add(prefix + name)

    def missing(self) -> list[str]:
        """Keys that nobody has read. A read of a copy counts if its section has one place only."""
        keys = list(leaves(type(self._config)))
        places: dict[tuple[type[BaseModel], str], int] = {}
        for _, section, name in keys:
            places[section, name] = places.get((section, name), 0) + 1
        return [
            path
            for path, section, name in keys
            if path not in self._paths
            and not ((section, name) in self._copies and places[section, name] == 1)
        ]


@contextmanager
def watched(config: Section) -> Iterator[Reads]:
    """Note every read of the config's keys by the library, the config package and identities left out."""
    reads = Reads(config)

    def read(self: Section, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in type(self).model_fields and _is_reader(sys._getframe(1)):
            reads.note(self, name)
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Section, "__getattribute__", read, raising=False)
        yield reads


def _is_reader(frame: Any) -> bool:
    """Whether the library reads; a property of the config package reads for whoever asks it."""
    while frame is not None and frame.f_code.co_filename.startswith((_CONFIG, __file__)):
        frame = frame.f_back
    file = frame.f_code.co_filename if frame is not None else ""
    return file.startswith(str(_SOURCE)) and file != _IDENTITY
