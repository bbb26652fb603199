"""Token budgets against a model's context, before anything is asked.

A server may shorten a budget that its context cannot hold, or refuse every request with it. Engines in this process
refuse, so a budget that fills the context alone is a mistake in the config, and is named as one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from genprm.config.models import EngineConfig
from genprm.engines.base import Engine
from genprm.engines.models import resolve_model
from genprm.errors import ConfigError

# Names for the same in configs of different architectures, such as GPT-2's and MPT's.
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


def check_budget(engine: Engine, max_tokens: int, key: str) -> None:
    """Raise if a budget leaves no token for a prompt in the context of an engine that knows its own.

    Args:
        key: the config key of the budget, for example `solutions.max_tokens`.

    Raises:
        ConfigError: the budget is as large as the context, or larger.
    """
    _compare(max_tokens, engine.describe().get("max_context"), key, engine.name)


def check_declared_budget(config: EngineConfig, max_tokens: int, key: str) -> None:
    """`check_budget` without making the engine, if its model is a folder that names its context.

    Raises:
        ConfigError: the budget is as large as the context, or larger; or there is no such packaged model.
    """
    model = config.options.get("model")
    if isinstance(model, str) and "base_urls" not in config.options:
        folder = Path(resolve_model(model))
        known = [declared_context(folder), config.options.get("max_context")]
        limits = [limit for limit in known if isinstance(limit, int)]
        _compare(max_tokens, min(limits, default=None), key, folder.name)


def _compare(max_tokens: int, limit: Any, key: str, name: str) -> None:
    if isinstance(limit, int) and max_tokens >= limit:
        raise ConfigError(
            f"{key} is {max_tokens}, but the context of {name} holds {limit} tokens, prompt and answer together",
            hint=f"Set {key} to less than {limit}, so that the prompt fits as well: --set {key}=N, or max_tokens=N "
            "of that section from Python.",
        )


def declared_context(folder: Path) -> int | None:
    """The context that a model's folder names; None if it names none. Whoever loads the model says what is wrong."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text = config.get("text_config", config)
        found = next((text[key] for key in _POSITIONS if key in text), None)
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return found if isinstance(found, int) and found > 0 else None
