"""One of several processes that train under FSDP2 without a GPU: `sharded_on_cpu.py BASE FOLDER KILL_AT`.

accelerate 1.15 shards on accelerators alone: it calls processes on CPUs `MULTI_CPU`, and leaves the launcher's FSDP out
for them. Here they are called what processes on GPUs are called, so that all that follows (accelerate's wrapping,
PyTorch's `fully_shard`, here over gloo, the Trainer's checkpoints) is what a machine with GPUs runs.

Trains each of `JOBS` into a folder of its name in FOLDER. The first process dies at step KILL_AT of the first job, 0 for
never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from test_train_sft import options, samples, train

from genprm.training import TrainProgress, sft, trainer

JOBS: dict[str, dict[str, Any]] = {
    "weights": {},
    "adapters": {"lora_rank": 4},
    "weights_mixed": {"precision": "mixed", "epochs": 1},
    "adapters_mixed": {"precision": "mixed", "epochs": 1, "lora_rank": 4},
}


def call_cpus_gpus() -> None:
    """For accelerate."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    connect = PartialState.__init__

    def renamed(self: PartialState, *args: Any, **kwargs: Any) -> None:
        connect(self, *args, **kwargs)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = renamed


def main(base: str, folder: str, kill_at: int) -> None:
    import torch

    call_cpus_gpus()
    sft.CHECKPOINT_SECONDS = 0.0
    trainer.SAVING_SHARE = float("inf")

    def die(progress: TrainProgress) -> None:
        if progress.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    for name, changes in JOBS.items():
        train(
            samples(9),
            options(base, micro_batch_size=1, **changes),
            Path(folder) / name,
            seed=0,
            on_progress=die,
        )
    torch.distributed.barrier()  # none leaves while another one still writes
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
