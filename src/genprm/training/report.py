"""What a training job says while it runs and when it is done."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Where a training job stands.

    Attributes:
        step: optimizer steps done.
        total: optimizer steps planned; a budget in seconds may end the job earlier.
        loss: mean loss of the last step, in nats per trained token.
        tokens: input tokens seen so far, padding left out.
        seconds: time spent so far, earlier attempts included up to their last checkpoint.
    """

    step: int
    total: int
    loss: float
    tokens: int
    seconds: float


ProgressCallback = Callable[[TrainProgress], None]


class JobReport(BaseModel):
    """What every training job says about itself; it is saved beside the model. Fields that a later version may have added
    are passed over.

    Attributes:
        job: what was trained: a key of data, options, seed and starting model.
        steps: optimizer steps done.
        losses: mean loss of every one of them; of fine-tuning on chats in nats per trained token.
        seconds: wall time of this attempt, set-up included.
        resumed_from: optimizer steps that an earlier attempt had done.
        device: of the first of the processes that trained.
        precision: what `auto` came to.
        files: checksums of the saved files, by name.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: str
    seed: int
    steps: int
    losses: tuple[float, ...]
    seconds: float
    resumed_from: int = 0
    device: str
    precision: str
    versions: dict[str, str]
    files: dict[str, str]


class NamedJobReport(JobReport):
    """What a job says that also records how it was asked for.

    Attributes:
        model: the model that was started from.
        options: of the training, as they were given.
        sources: where the labels come from, as the rows say; empty if none says so.
    """

    model: str
    options: dict[str, Any]
    sources: tuple[str, ...] = ()


class TrainReport(JobReport):
    """What a job of `train` did. What reports of earlier versions do not hold is None in them.

    Attributes:
        model: the model that was started from, as it was named.
        options: of the training, as they were given.
        profile: a key of the prompt profile with which the chats were compared before training.
        components: chats trained on, by their components.
        ended_by: `plan` if all planned steps were done, `seconds` if the time budget ended it.
        samples: samples trained on; `dropped_too_long` more were left out.
        dropped_unfit: those that were left out because the model cannot be trained on them as they are, by reason:
            `control_token` (a message spells one), `rewritten` (by the chat template).
        tokens: input tokens seen, padding left out; `trained_tokens` of an epoch carry the loss.
        padding_share: share of the model's input positions that were padding.
        processes: how many trained.
    """

    model: str | None = None
    options: dict[str, Any] | None = None
    profile: str | None = None
    components: dict[str, int] | None = None
    ended_by: str
    planned_steps: int
    samples: int
    dropped_too_long: int
    dropped_unfit: dict[str, int] | None = None
    max_length: int
    tokens: int
    trained_tokens: int
    padding_share: float
    processes: int

    @property
    def loss_first(self) -> float:
        """Loss of the first step."""
        return self.losses[0]

    @property
    def loss_last(self) -> float:
        """Mean loss of the last steps, at most ten."""
        tail = self.losses[-10:]
        return sum(tail) / len(tail)


def library_versions() -> dict[str, str]:
    """Versions of what trains, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in ("genprm", "torch", "transformers", "accelerate", "trl", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
