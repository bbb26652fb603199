"""The loop: trl's `SFTTrainer`, on labels made here and in the order of a plan.

Its data set is `input_ids` and `labels` as `ChatEncoder` made them, so that trl neither renders nor cuts anything. What
is added: the planned micro-batches, the budget in seconds and the learning rate that follows it, checkpoints by time,
and a loss without the statistics that `SFTTrainer` computes beside it. Why so: docs/decisions/0003-training-library.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from genprm.config.models import TrainConfig
from genprm.engines._common.memory import is_out_of_memory
from genprm.errors import TrainingError
from genprm.training.batches import MULTIPLE, Cut, Plan, cut_plan
from genprm.training.chat_data import EncodedSample
from genprm.training.checkpoints import last_checkpoint, step_of
from genprm.training.finite import require_finite_loss
from genprm.training.folder import CHECKPOINTS, LOGS, OnRepair
from genprm.training.models import Loaded
from genprm.training.processes import from_first, in_each, is_first_process, process_count, refusal
from genprm.training.resume import sealing, settle
from genprm.training.schedule import scheduled, share_at
from genprm.training.sharding import add_in_float32, layout_of, require_same_layout, whole_model

_IGNORED = -100
_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Padded tokens of a micro-batch. On a CPU small ones stay in its caches and need less padding."""
SAVING_SHARE = 0.05
"""Most of the time to spend on saving checkpoints."""
_MEMORY_HINT = (
    "set train.gradient_checkpointing=true or lower train.micro_batch_tokens ({tokens} now), with which the job resumes "
    "from its last checkpoint if it has one; or begin another with train.lora_rank"
)


@dataclass
class Clock:
    """Time spent on a job, the same in every process once they agreed on it.

    Attributes:
        started: `time.monotonic()` of the job's start.
        earlier: seconds spent by the attempts that this one resumes.
        agreed: seconds at the end of the last optimizer step.
        setup: seconds that this attempt spent before its first step; the learning rate's schedule begins after them.
    """

    started: float
    earlier: float = 0.0
    agreed: float = 0.0
    setup: float = 0.0

    def now(self) -> float:
        """Seconds spent so far, earlier attempts included."""
        return self.earlier + time.monotonic() - self.started


@dataclass
class Job:
    """Everything that one training job needs.

    Attributes:
        folder: for the trained model, with the checkpoints in it.
        checkpoint_seconds: least time between checkpoints.
        on_step: called with the number and the loss of every optimizer step.
        on_repair: called with one sentence about each damaged checkpoint.
    """

    loaded: Loaded
    samples: Sequence[EncodedSample]
    plan: Plan
    options: TrainConfig
    folder: Path
    seed: int
    clock: Clock
    checkpoint_seconds: float
    on_step: Callable[[int, float], None] = field(default=lambda step, loss: None)
    on_repair: OnRepair | None = None

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [len(sample) for sample in self.samples]

    @cached_property
    def micro_batch_tokens(self) -> int:
        """Most padded tokens of a micro-batch."""
        return self.options.micro_batch_tokens or _TOKENS["cuda" if self.loaded.cuda else "cpu"]

    @cached_property
    def cut(self) -> Cut:
        """The micro-batches of all processes."""
        return cut_plan(
            self.plan,
            self.lengths,
            tokens=self.micro_batch_tokens,
            rows=self.options.micro_batch_size,
            processes=process_count(),
        )

    def lr_factor(self, step: int) -> float:
        """Share of the full learning rate at a step (from 0): linear warm-up, then the schedule.

        Progress is the share of the planned steps or of the seconds, whichever is further. Reading and encoding the
        samples takes seconds but is no progress: counted as such, it would skip the warm-up.
        """
        progress = (step + 0.5) / len(self.plan)
        if self.options.max_seconds is not None:
            left = self.options.max_seconds - self.clock.setup
            progress = max(progress, (self.clock.agreed - self.clock.setup) / left if left > 0 else 1.0)
        return share_at(progress, self.options.warmup_ratio, self.options.schedule)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What the loop did.

    Attributes:
        losses: one entry for each optimizer step, resumed ones included.
        model: what was trained, wrapped by peft if it has adapters; if it was sharded, it is in the first process alone.
    """

    losses: list[float]
    padding_share: float
    resumed_from: int
    device: str
    model: Any


def run(job: Job) -> RunResult:
    """Train to the end of the plan or of the time budget; `job.on_step(step, loss)` follows every step.

    Raises:
        TrainingError: a loss that is not finite, too little memory, a budget in seconds that is over before the first
            step, or a checkpoint of a job that was sharded otherwise.
    """
    checkpoint = from_first(lambda: last_checkpoint(job.folder / CHECKPOINTS, job.on_repair))
    resumed_from = 0
    if checkpoint is not None:
        job.clock.earlier, resumed_from = from_first(
            lambda: (_seconds_until(checkpoint), step_of(checkpoint))
        )
    try:
        trainer = make_trainer(job)
        if checkpoint is not None:
            in_each(lambda: require_same_layout(checkpoint, layout_of(trainer)))
        job.clock.agreed = from_first(job.clock.now)
        job.clock.setup = job.clock.agreed - job.clock.earlier
        if checkpoint is None:
            require_time(job.options, job.clock.agreed)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        hint = _MEMORY_HINT.format(tokens=job.micro_batch_tokens)
        raise TrainingError("training needs more memory than there is", hint=hint) from error
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return RunResult(
        losses=losses,
        padding_share=job.cut.padding_share(job.lengths, len(losses)),
        resumed_from=resumed_from,
        device=str(trainer.args.device),
        model=whole_model(trainer, job.loaded),
    )


def require_time(options: TrainConfig, seconds: float) -> None:
    """Raise if a budget in seconds is over before the first step: its rate would be 0, and the model saved as it was.

    Args:
        seconds: spent so far.

    Raises:
        TrainingError: in the first process.
        ReportedElsewhere: in the others.
    """
    if options.max_seconds is not None and seconds >= options.max_seconds:
        raise refusal(
            f"train.max_seconds={options.max_seconds:g} was over before the first step: loading, reading and planning "
            f"took {seconds:.1f} s",
            hint="set train.max_seconds to what training is to take and these seconds, or bound it by train.epochs or "
            "train.max_tokens",
        )


def _seconds_until(checkpoint: Path) -> float:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return float(state["log_history"][-1]["seconds"])


def make_trainer(job: Job) -> Any:
    """The trainer of a job, before its first step."""
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback
    from trl import SFTTrainer

    class PlannedTrainer(scheduled(SFTTrainer, job.lr_factor)):  # type: ignore[misc]
        """Sees the micro-batches of a plan, and reports every step."""

        def __init__(self) -> None:
            self.saved = time.monotonic()
            self.saving = 0.0
            super().__init__(
                model=job.loaded.model,
                args=_arguments(job),
                train_dataset=make_dataset(job),
                processing_class=job.loaded.tokenizer,
                peft_config=job.loaded.adapters,
                callbacks=_callbacks(job),
            )
            add_in_float32(self.accelerator, self.model)
            self.model_accepts_loss_kwargs = True  # the loss below is divided by all tokens of a step
            self.remove_callback(PrinterCallback)

        def _send_telemetry(self) -> None:
            """What is trained here is reported to nobody."""

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """None: a trained folder has `genprm.json`."""

        def get_train_dataloader(self) -> Any:
            return DataLoader(
                self.train_dataset,
                batch_sampler=job.cut.of_process(self.args.process_index),
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if self.aux_loss_enabled:  # of mixtures of experts; it needs the mask
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            # Without a mask the quicker kernels are used. Padding is on the right, where causal attention never looks.
            del inputs["attention_mask"]
            log_probs = model(**inputs, use_cache=False, fused_lm_head=True).log_probs
            # `num_items_in_batch` counts the trained tokens of all processes, which average their gradients.
            return -log_probs.sum() * self.accelerator.num_processes / num_items_in_batch

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" not in logs:  # the summary at the end
                super().log(logs, start_time)
                return
            seconds, due = from_first(lambda: (job.clock.now(), self._checkpoint_is_due()))
            job.clock.agreed = seconds
            super().log({**logs, "seconds": seconds}, start_time)
            step, loss = self.state.global_step, logs["loss"]
            require_finite_loss(loss, step, "train.")
            job.on_step(step, loss)
            self.control.should_save |= due
            if job.options.max_seconds is not None and seconds >= job.options.max_seconds:
                self.control.should_training_stop = True

        def _checkpoint_is_due(self) -> bool:
            pause = max(job.checkpoint_seconds, self.saving / SAVING_SHARE)
            return time.monotonic() - self.saved >= pause

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            begun = time.monotonic()
            super()._save_checkpoint(model, trial)
            self.saved = time.monotonic()
            self.saving = self.saved - begun

    return PlannedTrainer()


def _arguments(job: Job) -> Any:
    from trl import SFTConfig

    arguments = SFTConfig(
        output_dir=str(job.folder / CHECKPOINTS),
        num_train_epochs=1,  # one pass over the plan
        per_device_train_batch_size=1,  # unused: the plan holds the micro-batches
        gradient_accumulation_steps=job.cut.accumulation,
        learning_rate=job.options.learning_rate,
        weight_decay=job.options.weight_decay,
        bf16=job.loaded.autocast,
        gradient_checkpointing=job.options.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=not job.loaded.cuda,
        seed=job.seed,
        max_length=None,  # longer samples are left out before
        dataset_kwargs={"skip_prepare_dataset": True},
        pad_to_multiple_of=MULTIPLE,
        save_strategy="no",  # by time, see `log`
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[tracker for tracker in job.options.report_to if tracker != "tensorboard"],
        project="genprm",
        run_name=job.folder.name,
        disable_tqdm=True,
        dataloader_pin_memory=job.loaded.cuda,
        ddp_find_unused_parameters=False,
    )
    return settle(arguments, half=job.loaded.autocast)


def _callbacks(job: Job) -> list[Any]:
    if "tensorboard" not in job.options.report_to or not is_first_process():
        return [sealing()]
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    # By itself it writes beside the checkpoints, which do not stay.
    return [sealing(), TensorBoardCallback(SummaryWriter(job.folder / LOGS))]


def make_dataset(job: Job) -> Any:
    """`input_ids` and `labels` of every sample, then one without a trained token that fills gaps (`cut_plan`)."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

    pad = job.loaded.tokenizer.pad_token_id or 0
    offsets = pa.array(np.cumsum([0, *job.lengths, 2]), type=pa.int64())
    ids = np.concatenate([*(sample.input_ids for sample in job.samples), np.full(2, pad, dtype=np.int32)])
    trained = np.concatenate([*(sample.loss_mask for sample in job.samples), np.zeros(2, dtype=np.bool_)])
    trained[np.asarray(offsets)[:-1]] = False  # nothing predicts the first token of a sample
    columns = {
        name: pa.LargeListArray.from_arrays(offsets, pa.array(values))
        for name, values in (("input_ids", ids), ("labels", np.where(trained, ids, np.int32(_IGNORED))))
    }
    return Dataset(pa.table(columns))
