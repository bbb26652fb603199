"""Supervised fine-tuning of a verifier (method, part 4), and of the direct baseline with the same code.

The job is planned before it starts: which samples each optimizer step sees follows from the samples, the
options and the seed alone. So a killed job resumes where its last checkpoint stands and ends with the
model that it would have ended with, and the learning rate follows the budget exactly. Only a budget in
seconds depends on the machine; there the learning rate follows the share of time used.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from genprm.config.models import TrainConfig
from genprm.config.seeds import check_seed
from genprm.engines import resolve_model
from genprm.engines._common.quiet import quiet
from genprm.errors import TrainingError
from genprm.identity import Decides, content_key, model_identity, rows_digest
from genprm.records import TrainingSample
from genprm.text.prompts import VerifierProfile
from genprm.training.batches import make_plan
from genprm.training.chat_data import ChatEncoder, EncodedSample, as_form, require_order
from genprm.training.control import UnfitText
from genprm.training.folder import MARKER, JobFolder
from genprm.training.models import (
    Loaded,
    load_model,
    load_tokenizer,
    require_extra,
    require_packages,
    save_final,
)
from genprm.training.processes import from_first, in_each, is_first_process, join_processes, process_count
from genprm.training.prompt_check import PromptCheck, check_template
from genprm.training.report import ProgressCallback, TrainProgress, TrainReport, library_versions
from genprm.training.sharding import require_shardable
from genprm.training.trainer import Clock, Job, RunResult, require_time, run

_LOG = logging.getLogger(__name__)
Form = Literal["rationale", "direct"]
_TOGETHER = 256  # samples that are tokenised together
CHECKPOINT_SECONDS = 30.0
_DECIDE_NOTHING = {"model", "micro_batch_size", "micro_batch_tokens", "gradient_checkpointing", "report_to"}
"""Options that change a model by rounding at most, so that a job short of memory can be resumed with others."""


@dataclass(slots=True)
class _Encoded:
    """What a job's samples became.

    Attributes:
        rows: those that are not too long.
        components: how many of them have which.
        too_long: how many are too long.
        unfit: how many the model cannot be trained on as they are, by reason.
        fault: what is wrong with the first of these.
    """

    rows: list[EncodedSample] = field(default_factory=list)
    components: Counter[str] = field(default_factory=Counter)
    too_long: int = 0
    unfit: Counter[str] = field(default_factory=Counter)
    fault: UnfitText | None = None


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

    A finished folder is left as it is and its report returned, after every file was compared with its checksum, and the
    samples with the profile, if it is another one than they were trained with; a damaged folder is reported and trained
    again. An unfinished one is resumed from its last checkpoint. Samples in the rationale form are reduced to judgements
    if `options.form` is `direct`. Before the first step every training text is compared with the prompts that inference
    will render (`PromptCheck`). Chats that are too long, hold a control token or are rewritten by the chat template are
    left out and counted. Uses the GPU if there is one. Processes that `accelerate launch` or `torchrun` started share the
    samples of each step; the first of them claims the folder, reports and saves, and all return its report.

    Args:
        profile: the prompt profile with which the model will be asked.
        on_progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: an experiment tracker that is not installed, or a seed out of bounds.
        TrainingError: no usable model or sample, a sample without a token to learn, a training text that does not begin
            with what inference renders, a folder that belongs to another job, a loss that is not finite, too little
            memory, or a budget in seconds that is over before the first step.
        DataError: samples that cannot be brought into the form asked for.
    """
    clock = Clock(time.monotonic())
    require_shardable(options)
    name = training_key(samples, options, check_seed(seed), profile)
    folder = JobFolder(output_dir, name, MARKER, TrainReport)
    if process_count() > 1:
        require_extra()
        join_processes()
    done = from_first(lambda: _finished(folder, samples, options.form, profile))
    if done is not None:
        return done
    with quiet(), ExitStack() as held:
        job, encoded = in_each(lambda: _prepare(samples, options, folder.path, profile, seed, clock))
        from_first(lambda: _require_time(folder, options, clock))
        done = from_first(lambda: held.enter_context(folder.claimed(on_repair)))
        if done is not None:
            return done
        job.on_step, job.on_repair = _reporter(job, on_progress), on_repair
        result = run(job)
        from_first(lambda: save_final(result.model, job.loaded, folder.path, job.options))
        return from_first(lambda: _finish(folder, job, result, encoded, options, profile))


def _finished(
    folder: JobFolder[TrainReport],
    samples: Sequence[TrainingSample],
    form: Form,
    profile: VerifierProfile,
) -> TrainReport | None:
    """The report of a finished job, for a profile that its samples were or could have been trained with.

    The samples hold what a profile decides, so another one does not make another job of them, fitting or not.

    Raises:
        TrainingError: see `JobFolder.finished`; or the samples do not begin with what inference renders with the profile.
    """
    found = folder.finished()
    if found is not None and found.profile != content_key(profile):
        require_extra()
        with quiet():
            tokenizer = load_tokenizer(str(folder.path.absolute()))
            for _ in _checked(samples, form, profile, ChatEncoder(tokenizer), _Encoded()):
                pass
    return found


def _require_time(folder: JobFolder[TrainReport], options: TrainConfig, clock: Clock) -> None:
    """`require_time` for a job that has no checkpoint: asked before the folder is claimed, so that it stays free."""
    if not any(folder.checkpoints.glob("*")):
        require_time(options, clock.now())


def _prepare(
    samples: Sequence[TrainingSample],
    named: TrainConfig,
    folder: Path,
    profile: VerifierProfile,
    seed: int,
    clock: Clock,
) -> tuple[Job, _Encoded]:
    """The job, and what its samples became. Whatever is wrong with what the user gave is found here."""
    require_packages(named)
    require_extra()
    options = named.model_copy(update={"model": resolve_model(named.model)})
    tokenizer = load_tokenizer(options.model)
    loaded = load_model(options, tokenizer)
    encoded = _encode_all(samples, options.form, profile, tokenizer, _max_length(options, loaded))
    plan = make_plan(
        [len(sample) for sample in encoded.rows],
        batch_size=options.batch_size,
        epochs=options.epochs,
        max_tokens=options.max_tokens,
        seed=seed,
    )
    return Job(loaded, encoded.rows, plan, options, folder, seed, clock, CHECKPOINT_SECONDS), encoded


def _max_length(options: TrainConfig, loaded: Loaded) -> int:
    return min(options.max_length, loaded.positions or options.max_length)


def _finish(
    folder: JobFolder[TrainReport],
    job: Job,
    result: RunResult,
    encoded: _Encoded,
    named: TrainConfig,
    profile: VerifierProfile,
) -> TrainReport:
    """Mark the folder of a saved model as finished."""
    steps = len(result.losses)
    report = TrainReport(
        job=folder.job,
        model=named.model,
        options=named.model_dump(mode="json", exclude={"model"}),
        profile=content_key(profile),
        components=dict(sorted(encoded.components.items())),
        seed=job.seed,
        ended_by="plan" if steps == len(job.plan) else "seconds",
        steps=steps,
        planned_steps=len(job.plan),
        samples=len(job.samples),
        dropped_too_long=encoded.too_long,
        dropped_unfit=dict(sorted(encoded.unfit.items())),
        max_length=_max_length(job.options, job.loaded),
        tokens=job.plan.tokens[steps - 1],
        trained_tokens=sum(int(sample.loss_mask.sum()) for sample in job.samples),
        padding_share=result.padding_share,
        losses=tuple(result.losses),
        seconds=job.clock.now(),
        resumed_from=result.resumed_from,
        device=result.device,
        processes=process_count(),
        precision=job.loaded.precision,
        versions=library_versions(),
        files=folder.checksums(),
    )
    folder.finish(report)
    return report


def check_model(options: TrainConfig, profile: VerifierProfile) -> None:
    """Find out whether a model's tokenizer and chat template can be trained with this profile, in seconds.

    Raises:
        MissingExtraError, ConfigError: see `require_packages`; or a package cannot be imported.
        TrainingError: no tokenizer to be read, or a chat template that asks otherwise than it trains.
    """
    require_packages(options)
    require_extra()
    with quiet():
        check_template(load_tokenizer(resolve_model(options.model)), profile, options.form)


def _reporter(job: Job, on_progress: ProgressCallback | None) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if on_progress is not None and is_first_process():
            tokens = job.plan.tokens[step - 1]
            on_progress(TrainProgress(step, len(job.plan), loss, tokens, job.clock.agreed))

    return report


def _checked(
    samples: Sequence[TrainingSample],
    form: Form,
    profile: VerifierProfile,
    encoder: ChatEncoder,
    found: _Encoded,
) -> Iterator[list[TrainingSample]]:
    """The samples in the form to train, some at a time, once they were compared with what inference renders.

    Those that do not fit the model are left out, and counted in `found`: a rationale is a model's own text.
    """
    prompts = PromptCheck(encoder.tokenizer, profile)
    for start in range(0, len(samples), _TOGETHER):
        chunk = [as_form(sample, form, profile) for sample in samples[start : start + _TOGETHER]]
        for sample in chunk:
            require_order(sample)
        rendered = [pair for one in chunk if (pair := _rendered(one, encoder, found)) is not None]
        if rendered:
            prompts.check_many(rendered)
            yield [one for one, _ in rendered]


def _rendered(
    sample: TrainingSample, encoder: ChatEncoder, found: _Encoded
) -> tuple[TrainingSample, str] | None:
    try:
        return sample, encoder.spans_of(sample)[0]
    except UnfitText as error:
        found.unfit[error.reason] += 1
        found.fault = found.fault or error
        return None


def _encode_all(
    samples: Sequence[TrainingSample],
    form: Form,
    profile: VerifierProfile,
    tokenizer: Any,
    max_length: int,
) -> _Encoded:
    encoder = ChatEncoder(tokenizer)
    found = _Encoded()
    for chunk in _checked(samples, form, profile, encoder, found):
        for sample, tokens in zip(chunk, encoder.encode_many(chunk, max_length), strict=True):
            if tokens is None:
                found.too_long += 1
            elif tokens.loss_mask[1:].any():
                found.rows.append(tokens)
                found.components[sample.components] += 1
            else:
                raise TrainingError(
                    f"chat '{sample.id}' has no token to learn: nothing in it is written by the assistant",
                    hint="remove it, or give it an assistant turn",
                )
    if not found.rows:
        raise _nothing_left(found, max_length)
    if found.fault is not None:
        if 2 * found.unfit["rewritten"] > len(samples):  # that is the template's way, and no odd chat's
            raise found.fault
        _LOG.warning(
            "%d of %d chats do not fit the model and are left out; the first: %s",
            found.unfit.total(),
            len(samples),
            found.fault.message,
        )
    return found


def _nothing_left(found: _Encoded, max_length: int) -> TrainingError:
    if found.fault is not None:
        longer = f", {found.too_long} are longer than {max_length} tokens" if found.too_long else ""
        reason = f"{found.unfit.total()} do not fit the model{longer}; the first: {found.fault.message}"
        hint = found.fault.hint
    elif found.too_long:
        reason = f"all {found.too_long} are longer than {max_length} tokens"
        hint = "raise train.max_length as far as the model takes it, or train on shorter solutions"
    else:
        reason, hint = "there are none", "look at what the stages 'consensus' and 'chats' kept"
    return TrainingError(f"no samples to train on: {reason}", hint=hint)


def training_key(
    samples: Sequence[TrainingSample], options: TrainConfig, seed: int, profile: VerifierProfile
) -> str:
    """Names a job: equal for equal samples, options, seed and starting model, wherever that is stored.

    Of the profile only the direct form's turns decide what is trained; otherwise it is in the samples.
    """
    decides = Decides(
        profiles=(profile.system_turn("direct"), profile.turn_end) if options.form == "direct" else None,
        options=options.model_dump(mode="json", exclude=_DECIDE_NOTHING),
        engine=model_identity(resolve_model(options.model)),
        seed=seed,
        more=rows_digest(samples),
    )
    return content_key("train", decides.digest())
