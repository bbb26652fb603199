"""The learning rate over a job: one rule for all trainers, and trainers that follow it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from genprm.config import PrmConfig
from genprm.config.rl import FurtherTraining


def share_at(progress: float, warmup: float, schedule: Literal["constant", "linear", "cosine"]) -> float:
    """Share of the full learning rate: linear warm-up, then the schedule.

    Args:
        progress: how much of the job is done, from 0 to 1; what is beyond counts as 1.
        warmup: at what progress the warm-up ends.
    """
    if progress < warmup:
        return progress / warmup
    rest = min(1.0, (progress - warmup) / (1.0 - warmup)) if warmup < 1 else 0.0
    if schedule == "linear":
        return 1.0 - rest
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0


def shares(options: PrmConfig | FurtherTraining, steps: int) -> Callable[[int], float]:
    """The share of each of `steps` optimizer steps, by its number from 0.

    A step stands for its middle, so that none has the rate 0: neither the first nor the last one, and not the only one.
    """
    return lambda step: share_at((step + 0.5) / steps, options.warmup_ratio, options.schedule)


def scheduled(trainer: Any, share: Callable[[int], float]) -> Any:
    """A trainer of transformers or trl whose learning rate is the full one times `share(step)`, steps from 0."""

    class Scheduled(trainer):  # type: ignore[misc]
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            from torch.optim.lr_scheduler import LambdaLR

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, share)
            self._created_lr_scheduler = True
            return self.lr_scheduler

    return Scheduled
