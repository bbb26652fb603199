"""Names for models that come with a package: `builtin:policy` and the like."""

from __future__ import annotations

import difflib
from pathlib import Path

from genprm.errors import ConfigError
from genprm.plugins import load_plugins, resolve

MODELS: dict[str, str] = {}
"""From a name to `"package.module:function"`; the function returns the model's folder. Filled by plugins."""

_BUILT_IN = "builtin:"


def register_model(name: str, target: str) -> None:
    """Make a packaged model known.

    Args:
        name: with a colon in it, so that it cannot be taken for a folder or a hub id.
        target: `"package.module:function"`, imported and called when the model is first asked for; it takes no
            arguments and returns the folder.

    Raises:
        ConfigError: one of the two has no colon.
    """
    if ":" not in name:
        raise ConfigError(f"the model name '{name}' has no ':'", hint="for example 'builtin:policy'")
    if ":" not in target:
        raise ConfigError(f"the model target '{target}' has no ':'", hint="write 'package.module:function'")
    MODELS[name] = target


def resolve_model(model: str) -> str:
    """The folder of a registered model; anything else (a folder, a hub id, a server's name) is returned as it is.

    Raises:
        ConfigError: no plugin has registered such a `builtin:` model.
        DataError: the model is known, and its files are not installed.
    """
    if model.startswith("~"):
        return str(Path(model).expanduser())
    if ":" not in model:
        return model
    if model not in MODELS and not Path(model).exists():
        load_plugins()
    if model in MODELS:
        return str(resolve(MODELS[model], f"the model '{model}'")())
    if model.startswith(_BUILT_IN):
        close = difflib.get_close_matches(model, MODELS, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError(
            f"there is no packaged model '{model}'", hint=f"{meant}known: {', '.join(sorted(MODELS))}"
        )
    return model
