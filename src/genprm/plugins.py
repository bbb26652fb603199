"""How a package above adds engines, problem sources and models to the tables below, without being imported there.

A plugin is a function without arguments that calls `register_engine`, `register_source` and the like. The
built-in worlds register themselves this way; an installed package does it with an entry point:

    [project.entry-points."genprm.plugins"]
    mine = "my_package:register"
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable

from genprm.errors import ConfigError

GROUP = "genprm.plugins"
BUILT_IN = ("genprm.worlds.arithmetic.plugin:register",)

_loaded = False


def load_plugins() -> None:
    """Call every plugin's function, once in this process. Cheap when called again.

    Raises:
        ConfigError: a plugin cannot be imported; the message names it.
    """
    global _loaded  # noqa: PLW0603
    if _loaded:
        return
    installed = [entry.value for entry in importlib.metadata.entry_points(group=GROUP)]
    for target in (*BUILT_IN, *installed):
        resolve(target, "the plugin")()
    _loaded = True


def resolve(target: str, what: str) -> Callable[..., object]:
    """The object that `"package.module:name"` names.

    Args:
        what: begins the error's sentence, for example `the plugin`.

    Raises:
        ConfigError: there is no such module or name.
    """
    module, _, name = target.partition(":")
    try:
        found: Callable[..., object] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{what} '{target}' cannot be loaded: {error}", hint="write it as 'package.module:name'"
        ) from error
    return found
