"""A run's problems: the built-in world, or whatever `genprm.sources` can read."""

from __future__ import annotations

from genprm.config import ProblemsConfig
from genprm.errors import ConfigError
from genprm.records import Problem
from genprm.sources import load_problems


def load_run_problems(options: ProblemsConfig, seed: int) -> list[Problem]:
    """Load the problems that `options` names.

    Args:
        seed: of the generator, for the built-in world.
    """
    if options.source != "arithmetic":
        return load_problems(options)
    from genprm.worlds.arithmetic import generate_problems

    if options.split == "train":
        return generate_problems(split="train", count=options.limit or 1000, seed=seed)
    if options.split == "eval":
        return generate_problems(split="eval", count=options.limit or 1000, seed=seed)
    raise ConfigError(
        f"the built-in arithmetic world has no split '{options.split}'", hint="Known: train, eval."
    )
