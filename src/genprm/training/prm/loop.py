"""The optimizer steps of a discriminative process reward model: transformers' Trainer with a loss over all its labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genprm.config import PrmConfig
from genprm.training.finite import require_finite_loss
from genprm.training.folder import OnRepair
from genprm.training.prm.data import IGNORED, EncodedSolution, collate
from genprm.training.resume import memory_named, settle, train_to_the_end
from genprm.training.schedule import scheduled, shares

_CHECKPOINTS = 10
"""Checkpoints of a whole job; the last two are kept while it runs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the loop did, steps of earlier attempts included: `losses` has one entry per optimizer step, `tokens` are the
    input tokens seen, padding left out.
    """

    losses: tuple[float, ...]
    tokens: int
    resumed_from: int
    device: str
    precision: str


def is_mixed(options: PrmConfig) -> bool:
    """Whether products are computed in bfloat16 here."""
    import torch

    if options.precision != "auto":
        return options.precision == "mixed"
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def fit(
    model: Any,
    tokenizer: Any,
    rows: Sequence[EncodedSolution],
    options: PrmConfig,
    checkpoints: Path,
    seed: int,
    on_step: Callable[[int, int, float], None],
    on_repair: OnRepair | None = None,
) -> Outcome:
    """Train to the end of the plan; `on_step(step, total, loss)` follows every optimizer step.

    Raises:
        TrainingError: a loss that is not finite, or too little memory.
    """
    import torch
    from transformers import PrinterCallback, Trainer

    cuda = torch.cuda.is_available()
    half = is_mixed(options)
    total = math.ceil(options.epochs * math.ceil(len(rows) / options.batch_size))
    with memory_named():
        trainer = scheduled(Trainer, shares(options, total))(
            model=model,
            args=_arguments(options, checkpoints, seed, total, cuda=cuda, half=half),
            train_dataset=list(rows),
            data_collator=lambda batch: collate(batch, tokenizer.pad_token_id or 0),
            compute_loss_func=_loss,
            callbacks=[_watch(total, on_step)],
        )
    trainer.remove_callback(PrinterCallback)
    resumed_from = train_to_the_end(trainer, checkpoints, on_repair)
    return Outcome(
        losses=tuple(entry["loss"] for entry in trainer.state.log_history if "loss" in entry),
        tokens=int(trainer.state.num_input_tokens_seen),
        resumed_from=resumed_from,
        device=str(trainer.args.device),
        precision="mixed" if half else "float32",
    )


def _loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """Cross-entropy at the labelled positions, as a share of the mean over the whole optimizer step."""
    from torch.nn.functional import cross_entropy

    trained = labels != IGNORED
    total = cross_entropy(outputs.logits[trained].float(), labels[trained], reduction="sum")
    return total / (trained.sum() if num_items_in_batch is None else num_items_in_batch)


def _arguments(
    options: PrmConfig, checkpoints: Path, seed: int, total: int, *, cuda: bool, half: bool
) -> Any:
    from transformers import TrainingArguments

    micro = max(n for n in range(1, options.micro_batch_size + 1) if options.batch_size % n == 0)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=options.batch_size // micro,
        max_steps=total,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        bf16=half,
        use_cpu=not cuda,
        seed=seed,
        save_strategy="steps",
        save_steps=math.ceil(total / _CHECKPOINTS),
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        label_names=["labels"],
    )
    return settle(arguments, half=half)


def _watch(total: int, on_step: Callable[[int, int, float], None]) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Reports every step, and ends a job whose loss is no number."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in (logs or {}):
                return
            loss = float(logs["loss"])
            require_finite_loss(loss, state.global_step)
            on_step(state.global_step, total, loss)

    return Watch()
