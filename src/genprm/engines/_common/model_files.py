"""What a model's files say: the length of its input, and in one line what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST = 200


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
