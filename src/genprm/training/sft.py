"""Supervised fine-tuning of a verifier (method, part 4), and of the direct baseline with the same code.

The job is planned before it starts: which samples each optimizer step sees follows from the samples, the
options and the seed alone. So a killed job resumes where its last checkpoint stands and ends with the
model that it would have ended with, and the learning rate follows the budget exactly. Only a budget in
seconds depends on the machine; there the learning rate follows the share of time used.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from genprm.config.models import TrainConfig
from genprm.engines._common.quiet import quiet
from genprm.errors import TrainingError
from genprm.identity import Decides, content_key, model_identity, rows_digest
from genprm.records import TrainingSample
from genprm.store import file_checksum, write_atomic
from genprm.text.prompts import CARD, VerifierProfile
from genprm.training.batches import Plan, make_plan
from genprm.training.chat_data import ChatEncoder, EncodedSample, as_form
from genprm.training.loop import Job, run
from genprm.training.models import load_model, load_tokenizer, require_extra, save_final
from genprm.training.prompt_check import PromptCheck, check_template

MARKER = "genprm_training.json"
"""Written last into a finished output folder; holds the `TrainReport`."""

_JOB = "genprm_job.json"
_CHECKPOINTS = "checkpoints"
_TOGETHER = 256  # samples that are tokenised together
CHECKPOINT_SECONDS = 30.0
_OTHER_FOLDER = "give another output folder, or remove this one to train anew"


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


class TrainReport(BaseModel):
    """What a training job did.

    Attributes:
        ended_by: `plan` where all planned steps were done, `seconds` where the time budget ended it.
        samples: samples trained on; `dropped_too_long` more were left out.
        tokens: input tokens seen, padding left out; `trained_tokens` of an epoch carry the loss.
        padding_share: share of the model's input positions that were padding.
        losses: mean loss of every step, in nats per trained token.
        seconds: wall time, set-up included.
        job: what was trained, from `training_key`.
        files: checksums of the saved files, by name.
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
    files: dict[str, str]

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
    profile: VerifierProfile,
    seed: int,
    on_progress: ProgressCallback | None = None,
    on_repair: Callable[[str], None] | None = None,
) -> TrainReport:
    """Fine-tune `options.model` on the samples and save model and tokenizer in `output_dir`.

    A finished folder is left as it is and its report returned, after every file was compared with its checksum; a
    damaged one is reported and trained again. An unfinished one is resumed from its last checkpoint. Samples in
    the rationale form are reduced to judgements if `options.form` is `direct`. Before the first step every training text
    is compared with the prompts that inference will render (`PromptCheck`). Uses the GPU if there is one. One process,
    one device.

    Args:
        profile: the prompt profile with which the model will be asked.
        on_progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        TrainingError: no usable model or sample, a training text that does not begin with what inference renders, a
            folder that belongs to another job, or a loss that is not finite.
        DataError: samples that cannot be brought into the form asked for.
    """
    started = time.monotonic()
    folder = Path(output_dir)
    name = training_key(samples, options, seed, profile)
    finished = _finished(folder, name, on_repair)
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
        encoded, dropped = _encode_all(samples, options, profile, tokenizer, max_length)
        plan = _plan(encoded, options, seed)
        _claim(folder, name)
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
        files=_checksums(folder),
    )
    write_atomic(folder / MARKER, report.model_dump_json(indent=1).encode())
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    return report


def check_model(options: TrainConfig, profile: VerifierProfile) -> None:
    """Find out whether a model's tokenizer and chat template can be trained with this profile, in seconds.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        TrainingError: no tokenizer to be read, or a chat template that asks otherwise than it trains.
    """
    require_extra()
    with quiet():
        check_template(load_tokenizer(options.model), profile, options.form)


def _reporter(job: Job, on_progress: ProgressCallback | None) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if on_progress is not None:
            on_progress(TrainProgress(step, len(job.plan), loss, job.plan.tokens[step - 1], job.seconds()))

    return report


def _encode_all(
    samples: Sequence[TrainingSample],
    options: TrainConfig,
    profile: VerifierProfile,
    tokenizer: Any,
    max_length: int,
) -> tuple[list[EncodedSample], int]:
    encoder, prompts = ChatEncoder(tokenizer), PromptCheck(tokenizer, profile)
    encoded = []
    dropped = 0
    for start in range(0, len(samples), _TOGETHER):
        chunk = [as_form(sample, options.form, profile) for sample in samples[start : start + _TOGETHER]]
        prompts.check_many([(one, encoder.trained_spans(one.conversations)[0]) for one in chunk])
        for tokens in encoder.encode_many(chunk, max_length):
            if tokens is None:
                dropped += 1
            elif tokens.loss_mask[1:].any():
                encoded.append(tokens)
    if not encoded:
        reason = f"all {dropped} are longer than {max_length} tokens" if dropped else "there are none"
        raise TrainingError(
            f"no samples to train on: {reason}", hint="look at what the stages 'consensus' and 'chats' kept"
        )
    return encoded, dropped


def _plan(encoded: Sequence[EncodedSample], options: TrainConfig, seed: int) -> Plan:
    return make_plan(
        [len(sample) for sample in encoded],
        batch_size=options.batch_size,
        epochs=options.epochs,
        max_tokens=options.max_tokens,
        seed=seed,
    )


def training_key(
    samples: Sequence[TrainingSample], options: TrainConfig, seed: int, profile: VerifierProfile
) -> str:
    """Names a job: equal for equal samples, options, seed and starting model, wherever that is stored.

    Of the profile only the direct form's turns decide what is trained; otherwise it is in the samples.
    """
    decides = Decides(
        profiles=(profile.system_turn("direct"), profile.turn_end) if options.form == "direct" else None,
        options=options.model_dump(mode="json", exclude={"model"}),
        engine=model_identity(options.model),
        seed=seed,
        more=rows_digest(samples),
    )
    return content_key("train", decides.digest())


def _finished(folder: Path, job: str, on_repair: Callable[[str], None] | None) -> TrainReport | None:
    """The report of a finished and intact job, None otherwise; a damaged model is removed.

    Raises:
        TrainingError: the folder belongs to another job, or cannot be written.
    """
    marker = folder / MARKER
    with _folder_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        report = _read_report(marker)
        if report is not None and report.job != job:
            raise TrainingError(
                f"{folder} holds the finished model of another training job", hint=_OTHER_FOLDER
            )
        damage = _damage(folder, report) if marker.exists() else []
        if report is not None and not damage:
            return report
        if damage:
            if on_repair is not None:
                on_repair(f"the trained model {folder}: {', '.join(damage)}; it is trained again")
            _clear(folder, report)
        _refuse_other_job(folder, job)
    return None


def _claim(folder: Path, job: str) -> None:
    """Note whose checkpoints the folder is about to hold; only now, since a job without samples leaves nothing."""
    with _folder_errors(folder):
        _refuse_other_job(folder, job)
        write_atomic(folder / _JOB, json.dumps({"job": job}).encode())


def _refuse_other_job(folder: Path, job: str) -> None:
    claim = folder / _JOB
    if claim.exists() and json.loads(claim.read_text(encoding="utf-8")).get("job") != job:
        raise TrainingError(f"{folder} holds the checkpoints of another training job", hint=_OTHER_FOLDER)


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"cannot write to the output folder {folder}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise TrainingError(
            f"{folder} holds a damaged record of a training job", hint=_OTHER_FOLDER
        ) from error


def _read_report(marker: Path) -> TrainReport | None:
    """The report of a finished job; None if there is none, or none that can be read."""
    try:
        return TrainReport.model_validate_json(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        return None


def _checksums(folder: Path) -> dict[str, str]:
    """Checksums of every file of a saved model, checkpoints and records of the job left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: file_checksum(path)
        for name, path in names.items()
        if name not in (MARKER, _JOB, CARD) and not name.startswith((".", f"{_CHECKPOINTS}/"))
    }


def _damage(folder: Path, report: TrainReport | None) -> list[str]:
    """What is wrong with a finished folder, file by file."""
    if report is None:
        return [f"{MARKER} cannot be read"]
    found = _checksums(folder)
    missing = [f"{name} is missing" for name in report.files if name not in found]
    changed = [
        f"{name} was changed or cut"
        for name in report.files
        if found.get(name, report.files[name]) != report.files[name]
    ]
    return missing + changed


def _clear(folder: Path, report: TrainReport | None) -> None:
    """Remove what a training job left in a damaged folder, and nothing else that may lie there."""
    (folder / MARKER).unlink()
    (folder / _JOB).unlink(missing_ok=True)
    for name in report.files if report is not None else ():
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("genprm", "torch", "transformers", "accelerate", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
