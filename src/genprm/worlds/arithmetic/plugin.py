"""What the arithmetic world adds to genprm: an engine (the tutor), a source of problems, and packaged models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from genprm.config import ProblemsConfig
from genprm.engines import Engine, ScriptedEngine, register_engine, register_model
from genprm.errors import ConfigError
from genprm.records import Problem
from genprm.sources import register_source

_HERE = "genprm.worlds.arithmetic"


def register() -> None:
    """Called once by `genprm.plugins`; imports nothing heavy."""
    register_engine("tutor", f"{_HERE}.plugin:tutor")
    register_source("arithmetic", f"{_HERE}.plugin:problems")
    for name in ("base", "policy", "verifier"):
        register_model(f"builtin:{name}", f"{_HERE}.tiny:{name}_checkpoint")


def tutor(**options: Any) -> Engine:
    """The scripted teacher as an engine; options are those of `make_tutor`."""
    from genprm.worlds.arithmetic.tutor import make_tutor

    try:
        return ScriptedEngine(make_tutor(**options), name="scripted tutor (built-in arithmetic)")
    except TypeError as error:
        raise ConfigError(f"the tutor does not take these options: {error}") from None


def problems(options: ProblemsConfig, seed: int) -> Iterator[Problem]:
    """Problems of the split that `options` names, from the seeded generator."""
    from genprm.worlds.arithmetic.problems import Split, generate_problems

    split = cast("Split", options.split)
    yield from generate_problems(split=split, count=options.limit or 1000, seed=seed)
