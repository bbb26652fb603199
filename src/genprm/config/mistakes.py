"""Several mistakes of a config as one error."""

from __future__ import annotations

from collections.abc import Sequence

from genprm.errors import ConfigError


def all_mistakes(place: str, mistakes: Sequence[ConfigError]) -> ConfigError:
    """One error of at least one mistake: one per line, each with its hint, if there are several.

    Args:
        place: the file, in front of the message; nothing if empty.
    """
    prefix = f"{place}: " if place else ""
    if len(mistakes) == 1:
        return ConfigError(f"{prefix}{mistakes[0].message}", hint=mistakes[0].hint)
    lines = [f"{one.message} ({one.hint})" if one.hint else one.message for one in mistakes]
    return ConfigError("\n  ".join([f"{prefix}{len(mistakes)} mistakes:", *lines]))
