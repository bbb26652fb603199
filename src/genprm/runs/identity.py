"""What names a model for cache keys, so that a changed checkpoint is never taken for the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genprm.config import EngineConfig
from genprm.errors import ConfigError
from genprm.store import content_key

# Options that decide where and how fast an engine answers, and not what.
_HOW = {"timeout", "max_concurrency", "retries", "retry_seconds", "api_key_env", "name", "threads"}
_HASHED_WHOLE = 64 * 1024 * 1024


def model_identity(model: str) -> str:
    """A hub id stays itself; a local folder becomes a key of its files.

    Small files are hashed whole. Of large ones the size and both ends are taken: hashing a 60 GB
    checkpoint at every start would cost minutes.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return content_key([[path.name, *_sample(path)] for path in files])


def engine_identity(config: EngineConfig) -> list[Any]:
    """What decides an engine's completions: its config, and the content of a local model."""
    model = config.options.get("model")
    content = model_identity(resolve_model(model)) if isinstance(model, str) else None
    # A trained model's path holds the run directory; its content says all that matters.
    options = {key: value for key, value in config.options.items() if key not in {"model", *_HOW}}
    if model is not None:
        options.pop("base_urls", None)
    return [config.kind, options, content if content is not None else model]


def resolve_model(model: str) -> str:
    """A model name or path; `builtin:base` and `builtin:policy` are the packaged checkpoints."""
    if not model.startswith("builtin:"):
        return model
    from genprm.worlds.arithmetic import base_checkpoint, policy_checkpoint

    checkpoints = {"builtin:base": base_checkpoint, "builtin:policy": policy_checkpoint}
    if model not in checkpoints:
        raise ConfigError(f"there is no packaged model '{model}'", hint=f"Known: {', '.join(checkpoints)}.")
    return str(checkpoints[model]())


def _sample(path: Path) -> list[str | int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE:
            return [size, content_key(file.read().hex())]
        head = file.read(1 << 20)
        file.seek(-(1 << 20), 2)
        return [size, content_key(head.hex(), file.read().hex())]
