"""Sources of problems that packages above, or plugins, register by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import cast

from genprm.config.models import ProblemsConfig
from genprm.plugins import load_plugins, resolve
from genprm.records import Problem

ProblemSource = Callable[[ProblemsConfig, int], Iterator[Problem]]

SOURCES: dict[str, str] = {}


def register_source(name: str, target: str) -> None:
    """Make a source known under a name that may stand in `problems.source`.

    Args:
        name: without a suffix, a slash or a colon, since such names are files and hub data sets.
        target: `"package.module:function"`, imported when first used. The function is called with the
            config section and the run's seed and gives problems; equal arguments must give equal problems.

    Raises:
        ValueError: the name would be read as a file's or a data set's.
    """
    if not may_be_registered(name):
        raise ValueError(f"a source cannot be called '{name}': that names a file or a data set")
    SOURCES[name] = target


def may_be_registered(name: str) -> bool:
    """Whether a name is neither a file's, nor a data set's, nor standard input's."""
    return bool(name) and name != "-" and not (PurePath(name).suffix or set(name) & set("/\\:~"))


def known_sources() -> list[str]:
    """The names of all registered sources, those of plugins included."""
    load_plugins()
    return sorted(SOURCES)


def registered_source(name: str) -> ProblemSource | None:
    """The function of a registered source; None for a name that nobody registered.

    Raises:
        ConfigError: the function, or a plugin, cannot be imported.
    """
    if not may_be_registered(name):
        return None
    if name not in SOURCES:
        load_plugins()
    if name not in SOURCES:
        return None
    return cast("ProblemSource", resolve(SOURCES[name], "the source"))
