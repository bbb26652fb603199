"""Making training data and models: labels, training, whole runs from a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genprm.aio import run_sync
from genprm.api.given import given_rows
from genprm.api.models import given_section, shortened
from genprm.config import LabelConfig, RunConfig, TrainConfig, VerifyConfig, load_config, read_run_config
from genprm.errors import ConfigError
from genprm.labels import label_solution
from genprm.records import SolutionLabels, SolutionScores, TrainingSample
from genprm.runs import Progress, RunResult, fine_tune, run_pipeline
from genprm.training import TrainProgress, TrainReport


def label(scores: Iterable[SolutionScores], options: LabelConfig | None = None) -> list[SolutionLabels]:
    """Step labels from Monte-Carlo counts (method, part 2; equations 10, 11). Nothing is sampled.

    Args:
        scores: for example `genprm.RunReader(folder).rows("montecarlo")`.
        options: the rule and its threshold; relative progress of at least 0.8 unless given.

    Raises:
        DataError: what is given are no such scores.
        ConfigError: options that are none.
    """
    rule = given_section(options, LabelConfig, "the options of labelling") or LabelConfig()
    given = given_rows(scores, SolutionScores, 'RunReader(folder).rows("montecarlo")')
    return [label_solution(row, rule) for row in given]


def train(
    chats: Iterable[TrainingSample],
    folder: str | Path,
    options: TrainConfig | None = None,
    *,
    verify: VerifyConfig | None = None,
    seed: int = 0,
    progress: Callable[[TrainProgress], None] | None = None,
    on_repair: Callable[[str], None] | None = None,
    **changes: Any,
) -> TrainReport:
    """Fine-tune a verifier on chats and save it in `folder` (method, part 4).

    Called again with the same arguments it returns the finished model's report, or resumes a job that was killed. A model
    that was damaged is trained again.

    Args:
        chats: for example `genprm.load_chats("runs/first")`.
        folder: gets model and tokenizer in the Hugging Face format.
        options: everything about the training; `changes` are keys of it, such as `model="..."`.
        verify: how the model will be asked; remembered beside its weights, but for a `max_tokens` that fills the model's
            context: half of that in its place. Its prompt profile is the one that the chats were made with, and some of
            them have its components. Without it the defaults count, and a finished model's folder says what it said.
        seed: of shuffling and initialisation.
        progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: a wrong option or seed.
        DataError: what is given are no chats, or they cannot be brought into the form asked for.
        TrainingError: no usable model or chat, chats that do not begin with the prompts that the model will be asked
            with or have other components, a folder that belongs to another job, or a budget in seconds that is over
            before the first step.
    """
    asked = given_section(options, TrainConfig, "the options of training")
    verify = given_section(verify, VerifyConfig, "verify")
    base = (asked or TrainConfig()).model_dump(mode="json")
    chosen = load_config(None, model=TrainConfig, base={**base, **changes})
    given = given_rows(chats, TrainingSample, "load_chats")
    return fine_tune(
        given,
        chosen,
        folder,
        verify=verify,
        seed=seed,
        on_progress=progress,
        on_repair=on_repair,
    )


def run(
    config: RunConfig | Mapping[str, Any] | str | Path,
    folder: str | Path,
    *,
    until: str = "train",
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> RunResult:
    """Run or resume a pipeline: solutions, Monte-Carlo scores, labels, rationales, consensus, chats, training.

    Args:
        config: a config, a mapping of its sections, or the path of a YAML file.
        folder: the run directory; a run that was killed continues where it stopped.
        until: the last stage to complete.
        overrides: `section.key=value` strings.
        progress: told how far each stage is.

    Raises:
        ConfigError, DataError: a mistake in the config or in the problems.
        RunIncomplete: problems are pending; run it again.
    """
    if isinstance(config, RunConfig):
        chosen = load_config(None, overrides, model=type(config), base=config.model_dump(mode="json"))
    elif isinstance(config, Mapping):
        chosen = load_config(None, overrides, model=RunConfig, base=dict(config))
    elif isinstance(config, str | Path):
        chosen = read_run_config(Path(config), overrides)
    else:
        raise ConfigError(
            f"a config cannot be {shortened(config)}",
            hint="Give genprm.RunConfig(...), a mapping of its sections, or the path of a YAML file.",
        )
    return run_sync(run_pipeline(chosen, Path(folder), until=until, progress=progress))
