"""A whole run from a config: the synthesis chain, then training on what it made."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from genprm.config import RunConfig, TrainConfig
from genprm.errors import DataError, StoreError
from genprm.runs.chains import ProblemSource, chain_until
from genprm.runs.fine_tuning import fine_tune
from genprm.runs.opening import check_executor, open_executor, open_store
from genprm.runs.preflight import ask_for_model, check_components, check_roles
from genprm.runs.progress import Progress, Silent
from genprm.runs.stage import Chain
from genprm.store import RunReader, RunStore, StageSummary
from genprm.text.counts import counted
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training import TrainProgress, TrainReport, check_model, training_key


@dataclass(frozen=True)
class Trained:
    """A trained model and the report of its training."""

    path: Path
    report: TrainReport


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        folder: the run directory.
        summaries: by stage.
        trained: the model, if the run went that far.
        repairs: every damage that was found and repaired, in one sentence each.
    """

    folder: Path
    summaries: dict[str, StageSummary]
    trained: Trained | None = None
    repairs: list[str] = field(default_factory=list)


async def run_pipeline(
    config: RunConfig,
    folder: Path,
    *,
    until: str = "train",
    first: int | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run or resume the pipeline of a config.

    Args:
        until: the last stage.
        first: at most so many of the problems, for now. The run directory's config is the whole one all the same.

    Raises:
        ConfigError: the config cannot work; nothing was called yet.
        ClusterError: its cluster cannot be used.
        TrainingError: the same, because of the model to train.
        DataError: a stage kept nothing, so that those after it have nothing to do.
        RunIncomplete: problems are pending; run it again.
        GenPRMError: an engine, the sandbox, the store or the training failed.
    """
    progress = progress or Silent()
    chain = chain_until(config, until)
    limit = min((n for n in (first, config.problems.limit) if n is not None), default=None)
    problems = ProblemSource(config.problems.model_copy(update={"limit": limit}), config.seed)
    problems.check()
    check_roles(config, chain)
    check_executor(config)
    if until == "train":
        await check_training(config, synthesised=has_chats(folder))
    part = "" if first is None else f"the first {first} problems"
    with open_store(folder, config, progress, part=part) as store:
        async with open_executor(config, store, progress) as executor:
            summaries = await executor.run(chain, problems, total=limit)
        stop_if_empty(chain, summaries)
        trained = None
        if until == "train":
            trained = await train_on_chats(store, config.train, config, progress)
    return RunResult(folder, summaries, trained, store.repairs)


async def check_training(config: RunConfig, *, synthesised: bool = False) -> None:
    """Raise before anything is computed for what would keep a run from being trained in the end.

    Args:
        synthesised: training comes next, and finds out itself what is wrong with the model's files.

    Raises:
        ConfigError, MissingExtraError: see `check_components` and `ask_for_model`.
        TrainingError: see `check_model`.
    """
    check_components(config)
    await asyncio.to_thread(ask_for_model, config.train)
    if not synthesised:
        profile = load_profile(config.verify.profile, VerifierProfile)
        await asyncio.to_thread(check_model, config.train, profile)


def stop_if_empty(chain: Chain, summaries: dict[str, StageSummary]) -> None:
    """Raise where a stage kept nothing of what it was given.

    Raises:
        DataError: naming the stage, the commonest reason and the section to look at.
    """
    for stage in chain.stages:
        summary = summaries[stage.name]
        if summary.problems == 0:
            left_out = summaries["problems"].reasons if "problems" in summaries else {}
            raise DataError(
                f"all problems are left out: {_in_words(left_out)}"
                if left_out
                else "there are no problems",
                hint="Look at problems.decontaminate and problems.near_duplicates."
                if left_out
                else "Look at problems.source and problems.limit.",
            )
        if summary.rows == 0:
            reason = max(summary.reasons, key=summary.reasons.__getitem__, default="no reason given")
            count = summary.reasons.get(reason, 0)
            raise DataError(
                f"the stage '{stage.name}' kept nothing of {counted(summary.problems, 'problem')}; "
                f"most often dropped: {reason} ({count})",
                hint=_HINTS.get(reason, f"Look at the dropped rows of the stage '{stage.name}'."),
            )


def _in_words(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


_HINTS = {
    "no_reference": "The problems have no reference answers: name their column with problems.columns.answer.",
    "sample_ungraded": "Answers cannot be compared with the references: look at those, or choose their problems.preset.",
    "sample_unfinished": "Solutions are cut by the token budget: raise solutions.max_tokens.",
    "sample_no_answer": "Solutions state no answer: look at solutions.profile, which asks for one.",
    "sample_too_few_steps": "Solutions have one step: look at solutions.profile, or lower solutions.min_steps.",
    "easy": "The policy solves these problems every time: choose harder ones, or solutions.require_both=false.",
    "hard": "The policy never solves these problems: choose easier ones, or solutions.require_both=false.",
    "start_zero": "The completer never solves these problems: raise montecarlo.k_start or choose a better one.",
    "step_without_code": "Steps were checked without code: let chats.component_shares have forms with an analysis.",
    "disagree": "Labels and teacher never agree: look at the label rule and at the teacher's rationales.",
}


async def train_on_chats(
    store: RunStore, options: TrainConfig, config: RunConfig, progress: Progress, *, name: str = "train"
) -> Trained:
    """Fine-tune on the run's chats; a finished model is checked and taken, a damaged one is made again."""
    profile = load_profile(config.verify.profile, VerifierProfile)
    samples = list(RunReader(store.path).rows("chats"))
    folder = store.artifact(name, training_key(samples, options, config.seed, profile))
    async with store.leased(f"{name}-{folder.name}"):
        bar = _StepBar(progress, name)
        report = await asyncio.to_thread(
            fine_tune,
            samples,
            options,
            folder,
            verify=config.verify,
            seed=config.seed,
            run=store.path,
            on_progress=bar,
            on_repair=store.repaired,
        )
    progress.end(
        name, f"{counted(report.steps, 'step')}, {report.tokens:,} tokens, {report.seconds:.1f} s: {folder}"
    )
    return Trained(folder, report)


def has_chats(folder: Path) -> bool:
    """Whether a run directory has all its chats, so that training comes next."""
    try:
        return any(stage.stage == "chats" and stage.complete for stage in RunReader(folder).stages())
    except StoreError:
        return False


class _StepBar:
    """Shows a training job's optimizer steps as a task's units."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._shown: int | None = None

    def __call__(self, state: TrainProgress) -> None:
        if self._shown is None:
            self._shown = state.step - 1
            self._progress.begin(self._name, state.total)
            self._progress.advance(self._name, self._shown, reused=True)
        self._progress.advance(self._name, state.step - self._shown)
        self._shown = state.step
