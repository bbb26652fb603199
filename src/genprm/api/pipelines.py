"""Making training data and models: labels, training, whole runs from a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genprm.aio import run_sync
from genprm.api.configs import read_run_config
from genprm.config import LabelConfig, RunConfig, TrainConfig, VerifyConfig, load_config
from genprm.engines import resolve_model
from genprm.labels import label_solution
from genprm.records import SolutionLabels, SolutionScores, TrainingSample
from genprm.rewards.genprm.card import write_card
from genprm.runs import Progress, RunResult, run_pipeline
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training import TrainProgress, TrainReport
from genprm.training import train as train_model
from genprm.training.processes import is_first_process
from genprm.view.model_card import write_model_card


def label(scores: Iterable[SolutionScores], options: LabelConfig | None = None) -> list[SolutionLabels]:
    """Step labels from Monte-Carlo counts (method, part 2; equations 10, 11). Nothing is sampled.

    Args:
        scores: for example `genprm.RunReader(folder).rows("montecarlo")`.
        options: the rule and its threshold; relative progress of at least 0.8 unless given.
    """
    rule = options or LabelConfig()
    return [label_solution(row, rule) for row in scores]


def train(
    chats: Sequence[TrainingSample],
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
        chats: for example `genprm.RunReader(folder).rows("chats")` as a list.
        folder: gets model and tokenizer in the Hugging Face format.
        options: everything about the training; `changes` are keys of it, such as `model="..."`.
        verify: how the model will be asked; remembered beside its weights. Its prompt profile is the one that the chats
            were made with.
        seed: of shuffling and initialisation.
        progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: a wrong option or seed.
        TrainingError: no usable model or chat, chats that do not begin with the prompts that the model will be asked
            with, or a folder that belongs to another job.
    """
    base = (options or TrainConfig()).model_dump(mode="json")
    named = load_config(None, model=TrainConfig, base={**base, **changes})
    chosen = named.model_copy(update={"model": resolve_model(named.model)})
    asked = verify or VerifyConfig()
    profile = load_profile(asked.profile, VerifierProfile)
    report = train_model(
        list(chats),
        chosen,
        folder,
        profile=profile,
        seed=seed,
        on_progress=progress,
        on_repair=on_repair,
    )
    if is_first_process():
        write_card(Path(folder), asked, form=chosen.form)
        write_model_card(folder, options=named)
    return report


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
    else:
        chosen = read_run_config(Path(config), overrides)
    return run_sync(run_pipeline(chosen, Path(folder), until=until, progress=progress))
