"""The training loop: the Trainer of transformers, fed with one whole optimizer step at a time.

Why so, and not trl's trainer or an own loop: docs/decisions/0003-training-library.md.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genprm.config.models import TrainConfig
from genprm.errors import TrainingError
from genprm.training.batches import Plan, collate, micro_batches, token_limit
from genprm.training.chat_data import EncodedSample
from genprm.training.models import Loaded

_LEARNING_RATE_HINT = "lower train.learning_rate, or raise train.warmup_ratio"


@dataclass
class Job:
    """Everything that one training job needs.

    Attributes:
        checkpoints: the folder for checkpoints.
        started: `time.monotonic()` of the job's start; budgets in seconds count from there.
        checkpoint_seconds: time between checkpoints.
    """

    loaded: Loaded
    samples: Sequence[EncodedSample]
    plan: Plan
    options: TrainConfig
    checkpoints: Path
    seed: int
    started: float
    checkpoint_seconds: float
    earlier: float = 0.0
    """Seconds spent by the attempts that this one resumes."""
    setup: float = 0.0
    """Seconds that this attempt spent before its first step; the learning rate's schedule begins after them."""

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [len(sample) for sample in self.samples]

    def seconds(self) -> float:
        """Time spent so far, earlier attempts included."""
        return self.earlier + time.monotonic() - self.started

    def micro_batches(self, step: int) -> list[list[int]]:
        """The samples of one optimizer step, cut into micro-batches."""
        weight = self.loaded.model.get_input_embeddings().weight
        limit = token_limit(weight.shape[0], max(self.lengths), "cuda" if weight.is_cuda else "cpu")
        rows = self.options.micro_batch_size
        return micro_batches(self.plan.steps[step], self.lengths, tokens=limit, rows=rows)

    def lr_factor(self, step: int) -> float:
        """Share of the full learning rate at a step (from 0): linear warm-up, then the schedule.

        Progress is the share of the planned steps or of the seconds, whichever is further. Reading and encoding the
        samples takes seconds but is no progress: counted as such, it would skip the warm-up.
        """
        progress = (step + 0.5) / len(self.plan)
        if self.options.max_seconds is not None:
            left = self.options.max_seconds - self.setup
            progress = max(progress, (self.seconds() - self.setup) / left if left > 0 else 1.0)
        warmup = self.options.warmup_ratio
        if progress < warmup:
            return progress / warmup
        rest = min(1.0, (progress - warmup) / (1.0 - warmup)) if warmup < 1 else 0.0
        if self.options.schedule == "linear":
            return 1.0 - rest
        if self.options.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * rest))
        return 1.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What the loop did. `losses` has one entry for each optimizer step, resumed ones included."""

    losses: list[float]
    padding_share: float
    seconds: float
    resumed_from: int
    device: str
    dtype: str


def run(job: Job, on_step: Callable[[int, float], None]) -> RunResult:
    """Train to the end of the plan or of the time budget; `on_step(step, loss)` follows every step.

    Raises:
        TrainingError: a loss that is not finite.
    """
    import torch

    cuda = torch.cuda.is_available()
    half = job.options.dtype == "bfloat16" or (
        job.options.dtype == "auto" and cuda and torch.cuda.is_bf16_supported()
    )
    checkpoint = last_checkpoint(job.checkpoints)
    trainer = _trainer_class()(job, _arguments(job, cuda=cuda, half=half), _callback(job, on_step))
    if checkpoint is not None:
        history = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        job.earlier = history[-1]["seconds"]
    job.setup = job.seconds() - job.earlier
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "seconds" in entry]
    return RunResult(
        losses=losses,
        padding_share=_padding_share(job, len(losses)),
        seconds=job.seconds(),
        resumed_from=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
        device=str(trainer.args.device),
        dtype="bfloat16" if half else "float32",
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones, left by a kill, are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in reversed(found):
        try:  # the state is written after everything else
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
            continue
        return path
    return None


def _padding_share(job: Job, steps: int) -> float:
    positions = tokens = 0
    for step in range(steps):
        for micro in job.micro_batches(step):
            width = -(-max(job.lengths[i] for i in micro) // 8) * 8
            positions += width * len(micro)
            tokens += sum(job.lengths[i] for i in micro)
    return 1.0 - tokens / positions if positions else 0.0


def _arguments(job: Job, *, cuda: bool, half: bool) -> Any:
    from transformers import TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(job.checkpoints),
        per_device_train_batch_size=1,  # one item of the data set is a whole optimizer step
        max_steps=len(job.plan),
        learning_rate=job.options.learning_rate,
        weight_decay=job.options.weight_decay,
        bf16=half,
        use_cpu=not cuda,
        seed=job.seed,
        save_strategy="no",  # the callback asks for checkpoints, by time
        save_total_limit=1,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # never DataParallel
    return arguments


def _trainer_class() -> Any:
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer

    class StepTrainer(Trainer):  # type: ignore[misc]
        """Each item of the data set is an optimizer step; each step runs its micro-batches."""

        def __init__(self, job: Job, arguments: Any, callback: Any) -> None:
            self.job = job
            super().__init__(
                model=job.loaded.model,
                args=arguments,
                train_dataset=_Steps(job),
                callbacks=[callback],
            )
            self.remove_callback(PrinterCallback)

        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset, batch_size=1, collate_fn=lambda items: items[0])

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, self.job.lr_factor
            )
            self._created_lr_scheduler = True
            return self.lr_scheduler

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            losses = [
                super(StepTrainer, self).training_step(model, m, inputs["trained"]) for m in inputs["micro"]
            ]
            loss = torch.stack(losses).sum()
            self.state.step_loss = float(loss)
            if not math.isfinite(self.state.step_loss):
                step = self.state.global_step + 1
                raise TrainingError(f"the loss is not finite at step {step}", hint=_LEARNING_RATE_HINT)
            return loss

        def compute_loss(
            self, model: Any, inputs: Any, *_: Any, num_items_in_batch: Any = None, **__: Any
        ) -> Any:
            # No attention mask: the padding is on the right, where causal attention never looks at it, and
            # without a mask the quicker causal kernels are used.
            logits = model(input_ids=inputs["input_ids"]).logits[:, :-1]
            labels = inputs["labels"][:, 1:]
            trained = labels != -100
            total = cross_entropy(logits[trained].float(), labels[trained], reduction="sum")
            return total / num_items_in_batch

    return StepTrainer


class _Steps:
    """The plan as a map-style data set."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __len__(self) -> int:
        return len(self.job.plan)

    def __getitem__(self, step: int) -> dict[str, Any]:
        import torch

        pad = self.job.loaded.tokenizer.pad_token_id or 0
        micro = []
        for indices in self.job.micro_batches(step):
            ids, labels = collate([self.job.samples[i] for i in indices], pad)
            micro.append({"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)})
        trained = sum(int((m["labels"] != -100).sum()) for m in micro)
        return {"micro": micro, "trained": trained}


def _callback(job: Job, on_step: Callable[[int, float], None]) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Records every step in the checkpointed state, asks for checkpoints, ends the time budget."""

        def __init__(self) -> None:
            self.saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seconds = job.seconds()
            state.log_history.append(
                {"step": state.global_step, "loss": state.step_loss, "seconds": seconds}
            )
            on_step(state.global_step, state.step_loss)
            if time.monotonic() - self.saved >= job.checkpoint_seconds:
                control.should_save = True
                self.saved = time.monotonic()
            if job.options.max_seconds is not None and seconds >= job.options.max_seconds:
                control.should_training_stop = True

    return Watch()
