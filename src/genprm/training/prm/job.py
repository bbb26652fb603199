"""Training of a discriminative process reward model on labelled solutions.

Cross-entropy on two classes at each labelled step's last token, on the Trainer of transformers; the loss of an optimizer
step is the mean over all its labelled steps. A killed job resumes from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genprm.config import PrmConfig
from genprm.config.seeds import check_seed
from genprm.engines import resolve_model
from genprm.engines._common.model_files import positions_of
from genprm.engines._common.quiet import quiet
from genprm.errors import TrainingError
from genprm.identity import Decides, content_key, model_identity, rows_digest
from genprm.records import LabelledSolution
from genprm.text.step_tokens import StepLayout
from genprm.training.folder import PRM_MARKER, JobFolder, OnRepair
from genprm.training.models import load_tokenizer, require_extra
from genprm.training.prm.data import Encoded, encode_rows
from genprm.training.prm.loop import Outcome, fit, is_mixed
from genprm.training.prm.model import load_classifier, save_classifier
from genprm.training.processes import require_one_process
from genprm.training.report import NamedJobReport, library_versions

_DECIDE_NOTHING = {"model", "micro_batch_size", "gradient_checkpointing"}
"""Of these the model's content decides, or rounding at most, so that a job short of memory can be resumed with others."""


@dataclass(frozen=True, slots=True)
class PrmProgress:
    """Where a training job stands.

    Attributes:
        step: optimizer steps done, of `total`.
        loss: mean loss of the last step, in nats per labelled step.
    """

    step: int
    total: int
    loss: float


class PrmReport(NamedJobReport):
    """What a training job did.

    Attributes:
        solutions: those trained on; `dropped_unlabelled` and `dropped_too_long` more were left out.
        right_steps, wrong_steps: labelled steps that carried the loss.
        unknown_steps: steps without a label in the solutions trained on.
        cut_steps: labelled steps beyond `max_length` tokens.
        tokens: input tokens seen, padding left out.
        losses: mean loss of every optimizer step, in nats per labelled step.
    """

    solutions: int
    dropped_unlabelled: int
    dropped_too_long: int
    right_steps: int
    wrong_steps: int
    unknown_steps: int
    cut_steps: int
    tokens: int


def train_discriminative(
    rows: Sequence[LabelledSolution],
    options: PrmConfig,
    output_dir: str | Path,
    *,
    seed: int,
    on_progress: Callable[[PrmProgress], None] | None = None,
    on_repair: OnRepair | None = None,
) -> PrmReport:
    """Fine-tune `options.model` with a head of two classes, and save model and tokenizer in `output_dir`.

    A finished folder is compared with its checksums and its report returned; a damaged one is reported and trained again,
    an unfinished one is resumed. Uses the GPU if there is one. One process, one device.

    Args:
        on_progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: a seed out of bounds.
        TrainingError: no usable model, nothing to learn from, a folder that is in use for something else, or a loss that
            is not finite.
    """
    started = time.monotonic()
    require_one_process("a discriminative model")
    folder = JobFolder(output_dir, _job_key(rows, options, check_seed(seed)), PRM_MARKER, PrmReport)
    finished = folder.finished()
    if finished is not None:
        return finished
    require_extra()
    layout = StepLayout(options.separator, options.separator)
    with quiet():
        source = resolve_model(options.model)
        tokenizer = load_tokenizer(source)
        model, dtype = load_classifier(source, options, layout, tokenizer, seed, half=is_mixed(options))
        positions = positions_of(model.config) or options.max_length
        encoded = encode_rows(
            rows, tokenizer, layout, steps=options.steps, max_length=min(options.max_length, positions)
        )

        def report_step(step: int, total: int, loss: float) -> None:
            if on_progress is not None:
                on_progress(PrmProgress(step, total, loss))

        with folder.claimed(on_repair) as done:
            if done is not None:
                return done
            outcome = fit(
                model, tokenizer, encoded.rows, options, folder.checkpoints, seed, report_step, on_repair
            )
            save_classifier(model, tokenizer, dtype, folder.path)
            sources = tuple(sorted({row.source for row in rows if row.source}))
            report = _report(folder, options, seed, encoded, sources, outcome, started)
            folder.finish(report)
    return report


def _report(
    folder: JobFolder[PrmReport],
    options: PrmConfig,
    seed: int,
    encoded: Encoded,
    sources: tuple[str, ...],
    outcome: Outcome,
    started: float,
) -> PrmReport:
    counts = encoded.counts
    return PrmReport(
        job=folder.job,
        model=options.model,
        options=options.model_dump(mode="json", exclude={"model"}),
        sources=sources,
        seed=seed,
        steps=len(outcome.losses),
        solutions=len(encoded.rows),
        dropped_unlabelled=counts["unlabelled"],
        dropped_too_long=counts["too_long"],
        right_steps=counts["right"],
        wrong_steps=counts["wrong"],
        unknown_steps=counts["unknown"],
        cut_steps=counts["cut"],
        tokens=outcome.tokens,
        losses=outcome.losses,
        seconds=round(time.monotonic() - started, 3),
        resumed_from=outcome.resumed_from,
        device=outcome.device,
        precision=outcome.precision,
        versions=library_versions(),
        files=folder.checksums(),
    )


def _job_key(rows: Sequence[LabelledSolution], options: PrmConfig, seed: int) -> str:
    """Equal for equal rows, options, seed and starting model, wherever that is stored."""
    if not options.model:
        raise TrainingError("no model to train is set", hint="set model to a model folder or a hub id")
    decides = Decides(
        options=options.model_dump(mode="json", exclude=_DECIDE_NOTHING),
        engine=model_identity(resolve_model(options.model)),
        seed=seed,
        more=rows_digest(rows),
    )
    return content_key("prm", decides.digest())
