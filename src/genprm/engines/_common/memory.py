"""Whether memory was what was missing."""

from __future__ import annotations

TOO_LITTLE = "there is too little memory for it"
TOO_LITTLE_HINT = (
    "take a smaller model or a narrower dtype, end what else uses the memory, or use another machine"
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was too little, of a GPU or of the machine."""
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
