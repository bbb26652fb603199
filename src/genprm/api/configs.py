"""Configs of runs, wherever they lie."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genprm.config import RunConfig, load_config
from genprm.errors import ConfigError


def read_run_config(
    path: Path | None, overrides: Sequence[str] = (), base: dict[str, Any] | None = None
) -> RunConfig:
    """A run's config; the one in a quickstart's run directory, which also says how to evaluate, counts as well.

    Raises:
        ConfigError: see `genprm.load_config`.
    """
    if path is not None and path.name == "config.yaml" and (path.parent / "run.json").is_file():
        from genprm.worlds.arithmetic.quickstart.settings import QuickstartConfig

        with contextlib.suppress(ConfigError):
            found = load_config(path, overrides, model=QuickstartConfig, base=base)
            if "evaluation" in found.model_fields_set:
                return found
    return load_config(path, overrides, model=RunConfig, base=base)
