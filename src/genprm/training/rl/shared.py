"""What GRPO and DPO have in common: the model, the arguments of trl's trainers, and the run of one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genprm.config import TrainConfig
from genprm.config.rl import FurtherTraining
from genprm.engines import resolve_model
from genprm.training.folder import OnRepair
from genprm.training.models import Loaded, load_model, load_tokenizer
from genprm.training.resume import settle, train_to_the_end
from genprm.training.schedule import scheduled, shares

_CHECKPOINTS = 10
"""Checkpoints of a whole job; the last one is kept while it runs."""
WHAT = "a verifier that is trained further"
"""How an error names what GRPO and DPO train."""
NEUTRAL: dict[str, Any] = {
    "model": True,
    "micro_batch_size": True,
    "gradient_checkpointing": True,
    "verify": {
        "profile": True,
        "votes": True,
        "threshold": True,
        "stop_at_first_error": True,
        "every_path_to_its_error": True,
        "voting": True,
        "error_bound": True,
        "history": True,
        "token_budget": True,
        "sampling": {"temperature", "top_p", "top_k"},
    },
}
"""Options that are no part of a job's key: those that change a model by rounding at most, names of contents, and those of
verification that no rollout reads.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trainer did.

    Attributes:
        logs: one entry per optimizer step, resumed ones included.
        model: what was trained, wrapped by peft if it has adapters.
    """

    logs: tuple[dict[str, Any], ...]
    resumed_from: int
    device: str
    model: Any


def load(options: FurtherTraining) -> Loaded:
    """The model to be trained with its tokenizer.

    Raises:
        TrainingError: none is named or can be read.
    """
    source = resolve_model(options.model)
    tokenizer = load_tokenizer(source)
    loaded = load_model(as_train_config(options), tokenizer)
    loaded.model.config.use_cache = False
    return loaded


def as_train_config(options: FurtherTraining) -> TrainConfig:
    """The options as those that models are loaded and saved with."""
    common = TrainConfig.model_fields.keys() & FurtherTraining.model_fields.keys()
    values = options.model_dump(include=set(common))
    return TrainConfig.model_validate({**values, "model": resolve_model(options.model)})


def arguments(
    kind: Any,
    options: FurtherTraining,
    loaded: Loaded,
    checkpoints: Path,
    seed: int,
    *,
    steps: int,
    micro: int,
    accumulation: int,
    **more: Any,
) -> Any:
    """The arguments of a trainer of trl.

    Args:
        kind: `GRPOConfig` or `DPOConfig`.
        steps: optimizer steps.
        micro: rows at once.
        accumulation: micro-batches per optimizer step.
        more: what only this kind knows.
    """
    found = kind(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        bf16=loaded.autocast,
        gradient_checkpointing=options.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not loaded.cuda,
        seed=seed,
        save_strategy="steps",
        save_steps=math.ceil(steps / _CHECKPOINTS),
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=loaded.cuda,
        remove_unused_columns=False,
        **more,
    )
    return settle(found, half=loaded.autocast)


def fit(trainer: Any, checkpoints: Path, on_repair: OnRepair | None = None) -> Outcome:
    """Train to the end, from the last checkpoint if there is one.

    Raises:
        TrainingError: too little memory.
    """
    resumed_from = train_to_the_end(trainer, checkpoints, on_repair)
    return Outcome(
        logs=tuple(entry for entry in trainer.state.log_history if "loss" in entry),
        resumed_from=resumed_from,
        device=str(trainer.args.device),
        model=trainer.accelerator.unwrap_model(trainer.model),
    )


def trainer_like(trainer: Any, options: FurtherTraining, steps: int) -> Any:
    """A trainer of trl that has the options' learning rate over so many steps, reports to nobody and writes no card."""

    class Silent(scheduled(trainer, shares(options, steps))):  # type: ignore[misc]
        def _send_telemetry(self) -> None:
            """What is trained here is reported to nobody."""

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """None."""

    return Silent
