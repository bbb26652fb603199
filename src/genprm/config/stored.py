"""Configs of runs, wherever they lie: one of the user's, or the one that a run directory holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genprm.config.load import load_config, read_sections
from genprm.config.quickstart import QuickstartConfig
from genprm.config.run import RunConfig


def read_run_config(
    path: Path | None, overrides: Sequence[str] = (), base: dict[str, Any] | None = None
) -> RunConfig:
    """A run's config; the one in a quickstart's run directory, which also says how to evaluate, counts as well.

    Raises:
        ConfigError: see `genprm.load_config`.
    """
    model: type[RunConfig] = RunConfig
    if path is not None and path.name == "config.yaml" and (path.parent / "run.json").is_file():
        model = QuickstartConfig if "evaluation" in read_sections(path) else RunConfig
    return load_config(path, overrides, model=model, base=base)
