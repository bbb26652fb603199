"""What a model's files say: the length of its input, and in one line what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genprm.errors import EngineError

_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST = 200


def require_here(model: str) -> None:
    """Raise unless a model is a folder, or a hub id that an earlier download left in the cache; takes no time.

    Raises:
        EngineError: with what to do.
    """
    if Path(model).expanduser().is_dir():
        return
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise EngineError(
            f"there is no model directory at {model}",
            hint="give a directory that holds config.json, the weights and the tokenizer",
        )
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model")
    if not (cached / "snapshots").is_dir():
        raise EngineError(
            f"{model} is neither a folder here nor a hub model on this machine",
            hint=f"nothing is downloaded silently: run `hf download {model}` first, or give a local directory",
        )


def positions_of(config: Any) -> int | None:
    """The longest input that a model of transformers can take; None if its config names none, as XLNet's -1 does."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def reason_of(error: Exception) -> str:
    """What a library says about files that it cannot load, on one line.

    The libraries have no common error: safetensors, tokenizers and the checked configs of the hub raise their own.
    """
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def is_clone_without_data(folder: str | Path) -> bool:
    """Whether a folder holds pointers of Git LFS in place of its large files."""
    return any(_opening(file) == _POINTER for file in Path(folder).glob("*") if file.is_file())


def _opening(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(len(_POINTER))
    except OSError:
        return b""
