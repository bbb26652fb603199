"""Running a trainer of transformers or trl from its last checkpoint to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genprm.errors import TrainingError
from genprm.training.folder import last_checkpoint


def train_to_the_end(trainer: Any, checkpoints: Path) -> int:
    """Train, from the last checkpoint if there is one; the optimizer steps that earlier attempts had done.

    Raises:
        TrainingError: too little memory.
    """
    import torch

    checkpoint = last_checkpoint(checkpoints)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "training needs more memory than the device has",
            hint="lower micro_batch_size or max_length, or set gradient_checkpointing or lora_rank",
        ) from error
    return 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
