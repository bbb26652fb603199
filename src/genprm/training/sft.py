"""Supervised fine-tuning of a verifier (method, part 4), and of the direct baseline with the same code.

The job is planned before it starts: which samples each optimizer step sees follows from the samples, the
options and the seed alone. So a killed job resumes where its last checkpoint stands and ends with the
model that it would have ended with, and the learning rate follows the budget exactly. Only a budget in
seconds depends on the machine; there the learning rate follows the share of time used.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from genprm.config.models import TrainConfig
from genprm.engines._common.quiet import quiet
from genprm.errors import TrainingError
from genprm.records import TrainingSample
from genprm.training.batches import Plan, make_plan
from genprm.training.chat_data import ChatEncoder, EncodedSample, as_form
from genprm.training.loop import Job, run
from genprm.training.models import load_model, load_tokenizer, require_extra, save_final

MARKER = "genprm_training.json"
"""Written last into a finished output folder; holds the `TrainReport`."""

_JOB = "genprm_job.json"
_CHECKPOINTS = "checkpoints"
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Where a training job stands.

    Attributes:
        step: optimizer steps done.
        total: optimizer steps planned; a budget in seconds may end the job earlier.
        loss: mean loss of the last step, in nats a trained token.
        tokens: input tokens seen so far, padding left out.
        seconds: time spent so far, earlier attempts included up to their last checkpoint.
    """

    step: int
    total: int
    loss: float
    tokens: int
    seconds: float


ProgressCallback = Callable[[TrainProgress], None]


class TrainReport(BaseModel):
    """What a training job did.

    Attributes:
        ended_by: `plan` where all planned steps were done, `seconds` where the time budget ended it.
        samples: samples trained on; `dropped_too_long` more were left out.
        tokens: input tokens seen, padding left out; `trained_tokens` of an epoch carry the loss.
        padding_share: share of the model's input positions that were padding.
        losses: mean loss of every step, in nats a trained token.
        seconds: wall time, set-up included.
        job: fingerprint of options, seed and samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    seed: int
    ended_by: str
    steps: int
    planned_steps: int
    samples: int
    dropped_too_long: int
    max_length: int
    tokens: int
    trained_tokens: int
    padding_share: float
    losses: tuple[float, ...]
    seconds: float
    resumed_from: int = 0
    device: str
    dtype: str
    versions: dict[str, str]

    @property
    def loss_first(self) -> float:
        """Loss of the first step."""
        return self.losses[0]

    @property
    def loss_last(self) -> float:
        """Mean loss of the last steps, at most ten."""
        tail = self.losses[-10:]
        return sum(tail) / len(tail)


def train(
    samples: Sequence[TrainingSample],
    options: TrainConfig,
    output_dir: str | Path,
    *,
    seed: int,
    on_progress: ProgressCallback | None = None,
) -> TrainReport:
    """Fine-tune `options.model` on the samples and save model and tokenizer in `output_dir`.

    A finished folder is left as it is and its report returned; an unfinished one is resumed from its
    last checkpoint. Samples in the rationale form are reduced to judgements where `options.form` is
    `direct`. Uses the GPU where there is one. One process, one device.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        TrainingError: no usable model or sample, a folder that belongs to another job, or a loss that
            is not finite.
        DataError: samples that cannot be brought into the form asked for.
    """
    started = time.monotonic()
    folder = Path(output_dir)
    name = fingerprint(samples, options, seed)
    finished = _finished(folder, name)
    if finished is not None:
        return finished
    require_extra()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError(
            "training runs in one process", hint="start it without torchrun or accelerate launch"
        )
    with quiet():
        tokenizer = load_tokenizer(options.model)
        loaded = load_model(options, tokenizer, seed)
        max_length = min(options.max_length, loaded.positions or options.max_length)
        encoded, dropped = _encode_all(samples, options, tokenizer, max_length)
        plan = _plan(encoded, options, seed)
        job = Job(loaded, encoded, plan, options, folder / _CHECKPOINTS, seed, started, CHECKPOINT_SECONDS)
        result = run(job, _reporter(job, on_progress))
        save_final(loaded, folder)
    report = TrainReport(
        job=name,
        seed=seed,
        ended_by="plan" if len(result.losses) == len(plan) else "seconds",
        steps=len(result.losses),
        planned_steps=len(plan),
        samples=len(encoded),
        dropped_too_long=dropped,
        max_length=max_length,
        tokens=plan.tokens[len(result.losses) - 1],
        trained_tokens=sum(int(sample.loss_mask.sum()) for sample in encoded),
        padding_share=result.padding_share,
        losses=tuple(result.losses),
        seconds=result.seconds,
        resumed_from=result.resumed_from,
        device=result.device,
        dtype=result.dtype,
        versions=_versions(),
    )
    _write_atomically(folder / MARKER, report.model_dump_json(indent=1))
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    return report


def _reporter(job: Job, on_progress: ProgressCallback | None) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if on_progress is not None:
            on_progress(TrainProgress(step, len(job.plan), loss, job.plan.tokens[step - 1], job.seconds()))

    return report


def _encode_all(
    samples: Sequence[TrainingSample], options: TrainConfig, tokenizer: Any, max_length: int
) -> tuple[list[EncodedSample], int]:
    encoder = ChatEncoder(tokenizer)
    encoded = []
    dropped = 0
    for sample in samples:
        tokens = encoder.encode(as_form(sample, options.form), max_length)
        if tokens is None:
            dropped += 1
        elif tokens.loss_mask[1:].any():
            encoded.append(tokens)
    if not encoded:
        reason = f"all {dropped} are longer than {max_length} tokens" if dropped else "there are none"
        raise TrainingError(f"no samples to train on: {reason}", hint="check the filter stage's report")
    return encoded, dropped


def _plan(encoded: Sequence[EncodedSample], options: TrainConfig, seed: int) -> Plan:
    return make_plan(
        [len(sample) for sample in encoded],
        batch_size=options.batch_size,
        epochs=options.epochs,
        max_tokens=options.max_tokens,
        seed=seed,
    )


def fingerprint(samples: Sequence[TrainingSample], options: TrainConfig, seed: int) -> str:
    """Names a job: equal for equal samples, options, seed and starting model, wherever that is stored."""
    digest = hashlib.sha256()
    digest.update(options.model_dump_json(exclude={"model"}).encode())
    digest.update(f"|{seed}|".encode())
    for part in _model_identity(options.model):
        digest.update(part)
    for sample in samples:
        digest.update(sample.model_dump_json().encode())
    return digest.hexdigest()


def _model_identity(name: str) -> list[bytes]:
    """Names, sizes and ends of a model folder's files; a hub id stands for itself."""
    folder = Path(name)
    if not name or not folder.is_dir():
        return [name.encode()]
    parts = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".safetensors", ".bin", ".json", ".jinja", ".txt"} or path.name in {
            MARKER,
            _JOB,
        }:
            continue
        with path.open("rb") as file:
            head = file.read(2**20)
            file.seek(max(0, path.stat().st_size - 2**20))
            parts += [f"{path.name}:{path.stat().st_size}".encode(), head, file.read()]
    return parts


def _finished(folder: Path, job: str) -> TrainReport | None:
    """The report of a finished job; claims the folder for this job otherwise.

    Raises:
        TrainingError: the folder belongs to another job, or cannot be written.
    """
    hint = "give another output folder, or remove this one to train anew"
    marker = folder / MARKER
    claim = folder / _JOB
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if marker.exists():
            report = TrainReport.model_validate_json(marker.read_text(encoding="utf-8"))
            if report.job != job:
                raise TrainingError(f"{folder} holds the finished model of another training job", hint=hint)
            return report
        if claim.exists() and json.loads(claim.read_text(encoding="utf-8")).get("job") != job:
            raise TrainingError(f"{folder} holds the checkpoints of another training job", hint=hint)
        _write_atomically(claim, json.dumps({"job": job}))
    except OSError as error:
        raise TrainingError(f"cannot write to the output folder {folder}: {error.strerror}") from error
    except (ValidationError, ValueError, AttributeError) as error:
        raise TrainingError(f"{folder} holds a damaged record of a training job", hint=hint) from error
    return None


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("genprm", "torch", "transformers", "accelerate", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
