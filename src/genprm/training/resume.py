"""Running a trainer of transformers or trl: its surroundings, and from its last checkpoint to its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genprm.engines._common.memory import is_out_of_memory
from genprm.errors import TrainingError
from genprm.training.checkpoints import last_checkpoint, seal, step_of
from genprm.training.folder import OnRepair
from genprm.training.processes import is_first_process, process_count


def settle(arguments: Any, *, half: bool) -> Any:
    """The arguments of a trainer without what they take from their surroundings.

    That is all GPUs at once in one process, and a launcher's precision: under it, weights asked for in bfloat16 would be
    trained in float32, and float32 in bfloat16.

    Args:
        half: whether products are computed in bfloat16.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # never DataParallel
    arguments.mixed_precision = "bf16" if half else "no"
    return arguments


def train_to_the_end(trainer: Any, checkpoints: Path, on_repair: OnRepair | None = None) -> int:
    """Train, from the last checkpoint if there is one; the optimizer steps that earlier attempts had done.

    Raises:
        TrainingError: too little memory.
    """
    checkpoint = last_checkpoint(checkpoints, on_repair)
    done = 0 if checkpoint is None else step_of(checkpoint)
    trainer.add_callback(sealing())
    with memory_named():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return done


@contextmanager
def memory_named() -> Iterator[None]:
    """Makes a lack of memory one error with its remedy, while a trainer is made (it moves the model) and while it runs.

    Raises:
        TrainingError: too little memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "training needs more memory than there is",
            hint="lower micro_batch_size or set gradient_checkpointing, with which the job resumes from its last "
            "checkpoint if it has one; or begin another with a lower max_length or with lora_rank",
        ) from error


def sealing() -> Any:
    """A callback that seals each checkpoint when all processes have written their parts of it."""
    from transformers import TrainerCallback

    class Sealing(TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if process_count() > 1:
                import torch

                torch.distributed.barrier()
            if is_first_process():
                seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    return Sealing()
