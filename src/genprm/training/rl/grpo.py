"""GRPO of a verifier on labelled solutions: rollouts with executed code, verdicts rewarded by the labels.

The method's SFT checkpoint writes analyses and code that a teacher would write; whether its verdicts are right is not in
that loss. Here they are what is optimised. Every optimizer step rolls out `paths` verifications of `solutions` labelled
solutions with the current weights; see `genprm.training.rl.credit` for the reward and `genprm.training.rl.rollout` for
what carries the loss.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from genprm.aio import derive_seed, run_sync
from genprm.config import GrpoConfig
from genprm.config.seeds import check_seed
from genprm.engines import check_budget, resolve_model
from genprm.engines._common.quiet import quiet
from genprm.engines.local import LocalEngine
from genprm.errors import ConfigError, TrainingError
from genprm.identity import Decides, content_key, model_identity, rows_digest
from genprm.records import LabelledSolution
from genprm.rewards.genprm.path import PathContext
from genprm.rewards.genprm.verifier import TIER
from genprm.sandbox import make_sandbox
from genprm.text.counts import counted
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training.chat_data import ChatEncoder
from genprm.training.control import control_tokens, refuse_in_solutions
from genprm.training.folder import GRPO_MARKER, JobFolder, OnRepair
from genprm.training.models import require_extra, save_final
from genprm.training.processes import require_one_process
from genprm.training.prompt_check import check_template
from genprm.training.report import NamedJobReport, library_versions
from genprm.training.resume import memory_named
from genprm.training.rl.credit import OUTCOMES
from genprm.training.rl.grpo_trainer import GrpoJob, StepFigures, make_trainer
from genprm.training.rl.rollout import Roller, labelled_steps
from genprm.training.rl.shared import NEUTRAL, WHAT, Outcome, as_train_config, fit, load


class GrpoReport(NamedJobReport):
    """What a job did.

    Attributes:
        solutions: that could be drawn; `dropped_unlabelled` more have no label.
        rewards: mean reward of each optimizer step's turns; None for a step without a known one.
        outcomes: turns by outcome in each step, see `genprm.training.rl.credit`.
        tokens: that carried the loss in each step.
        contrasts: on how many steps of solutions the paths of a group were rewarded unlike each other, in each optimizer
            step; empty in reports of versions that did not count them.
        warning: says why, if rewards taught little or nothing.
    """

    solutions: int
    dropped_unlabelled: int
    rewards: tuple[float | None, ...]
    outcomes: tuple[dict[str, int], ...]
    tokens: tuple[int, ...]
    contrasts: tuple[int, ...] = ()
    warning: str | None = None


def train_grpo(
    rows: Sequence[LabelledSolution],
    options: GrpoConfig,
    output_dir: str | Path,
    *,
    seed: int,
    on_step: Callable[[StepFigures], None] | None = None,
    on_repair: OnRepair | None = None,
) -> GrpoReport:
    """Train `options.model` on its own rollouts, and save model and tokenizer in `output_dir`.

    The report of a finished and intact folder is returned; a damaged one is trained again, and an unfinished one is
    resumed from its last checkpoint. Uses the GPU if there is one. One process, one device, which holds the model twice:
    as it is trained, and as the engine runs it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: an unknown prompt profile, a sandbox that cannot be made, or a seed out of bounds.
        TrainingError: no usable model, no label, a solution that holds a control token of the model, a chat template that
            asks otherwise than it trains, a folder that is in use for something else, a step whose every rollout was lost
            to faults, or a loss that is not finite.
    """
    started = time.monotonic()
    require_one_process(WHAT)
    folder = JobFolder(output_dir, _job_key(rows, options, check_seed(seed)), GRPO_MARKER, GrpoReport)
    finished = folder.finished()
    if finished is not None:
        return finished
    require_extra()
    solutions = [row for row in rows if labelled_steps(row)]
    if not solutions:
        raise TrainingError(
            f"none of {len(rows)} solutions has a label to learn from",
            hint="give solutions with step labels",
        )
    with quiet():
        job = make_job(solutions, options, folder.checkpoints, seed, on_step or (lambda _: None))
        try:
            with folder.claimed(on_repair) as done:
                if done is not None:
                    return done
                with memory_named():
                    trainer = make_trainer(job)
                outcome = fit(trainer, folder.checkpoints, on_repair)
                save_final(outcome.model, job.loaded, folder.path, as_train_config(options))
                report = _report(job, folder, outcome, rows, started)
                folder.finish(report)
        finally:
            run_sync(job.aclose())
    return report


def _report(
    job: GrpoJob,
    folder: JobFolder[GrpoReport],
    outcome: Outcome,
    rows: Sequence[LabelledSolution],
    started: float,
) -> GrpoReport:
    logs, options = outcome.logs, job.options
    rewards = tuple(entry["genprm_reward"] for entry in logs)
    contrasts = tuple(entry["genprm_contrasts"] for entry in logs)
    return GrpoReport(
        job=folder.job,
        model=options.model,
        options=options.model_dump(mode="json", exclude={"model"}),
        sources=tuple(sorted({row.source for row in rows if row.source})),
        seed=job.seed,
        steps=len(logs),
        solutions=len(job.solutions),
        dropped_unlabelled=len(rows) - len(job.solutions),
        rewards=rewards,
        outcomes=tuple({name: entry[f"genprm_{name}"] for name in OUTCOMES} for entry in logs),
        tokens=tuple(entry["genprm_tokens"] for entry in logs),
        contrasts=contrasts,
        warning=warning_of(rewards, contrasts),
        losses=tuple(entry["loss"] for entry in logs),
        seconds=round(time.monotonic() - started, 3),
        resumed_from=outcome.resumed_from,
        device=outcome.device,
        precision=job.loaded.precision,
        versions=library_versions(),
        files=folder.checksums(),
    )


def warning_of(rewards: Sequence[float | None], contrasts: Sequence[int]) -> str | None:
    """What is to be said if rewards taught nothing in half of the optimizer steps or more; None otherwise."""
    idle = [reward for reward, count in zip(rewards, contrasts, strict=True) if not count]
    if 2 * len(idle) < len(rewards):
        return None
    if any(reward is not None for reward in idle):
        why = "all paths of a group were rewarded alike"
        remedy = (
            "Take solutions that the model judges sometimes right, more paths or a higher temperature, or a larger "
            "verify.max_tokens if most turns are malformed."
        )
    else:
        why, remedy = "no turn had a reward", "Look at why turns were lost, and give labels that are known."
    return f"rewards taught nothing in {len(idle)} of {counted(len(rewards), 'step')}: {why}. {remedy}"


def make_job(
    solutions: Sequence[LabelledSolution],
    options: GrpoConfig,
    checkpoints: Path,
    seed: int,
    on_step: Callable[[StepFigures], None],
) -> GrpoJob:
    """The job. Whatever is wrong with what the user gave is found here."""
    asked = options.verify
    profile = load_profile(asked.profile, VerifierProfile)
    loaded = load(options)
    direct = asked.components == "direct"
    check_template(loaded.tokenizer, profile, "direct" if direct else "rationale")
    refuse_in_solutions(solutions, control_tokens(loaded.tokenizer))
    sandbox = None
    if "execution" in asked.components:
        sandbox = make_sandbox(options.sandbox, profile.sandbox_tier or TIER)
    sampling = asked.sampling.model_copy(
        update={"temperature": options.temperature, "top_p": 1.0, "top_k": 0}
    )
    engine = LocalEngine(
        resolve_model(options.model),
        deterministic=not loaded.cuda,
        max_context=min(options.max_length, loaded.positions or options.max_length),
    )
    try:
        check_budget(engine, asked.max_tokens, "verify.max_tokens")
    except ConfigError:
        engine.close()
        raise
    context = PathContext(
        engine=engine,
        sandbox=sandbox,
        profile=profile,
        options=asked.model_copy(update={"sampling": sampling}),
        slots=asyncio.Semaphore(options.concurrency),
        seed=seed,
        limits=None if sandbox is None else sandbox.limits,
    )
    return GrpoJob(
        loaded=loaded,
        solutions=solutions,
        plan=make_plan(len(solutions), options, seed),
        options=options,
        engine=engine,
        roller=Roller(context, ChatEncoder(loaded.tokenizer), options),
        checkpoints=checkpoints,
        seed=seed,
        on_step=on_step,
    )


def make_plan(count: int, options: GrpoConfig, seed: int) -> list[list[int]]:
    """For each optimizer step the numbers of its solutions, none twice in one step.

    Passes over the solutions follow each other, each in an order of its own; what does not fill a step is left out of
    that pass. With fewer solutions than a step is to take, each step takes all of them.
    """
    each = min(options.solutions, count)
    per_pass = count // each
    plan: list[list[int]] = []
    for number in range(math.ceil(options.steps / per_pass)):
        order = list(range(count))
        random.Random(derive_seed(seed, "plan", number)).shuffle(order)
        plan += [order[start : start + each] for start in range(0, per_pass * each, each)]
    return plan[: options.steps]


def _job_key(rows: Sequence[LabelledSolution], options: GrpoConfig, seed: int) -> str:
    """Equal for equal rows, options, seed and starting model, wherever that is stored."""
    if not options.model:
        raise TrainingError("no model to train is set", hint="set model to a model folder or a hub id")
    profile = load_profile(options.verify.profile, VerifierProfile)
    decides = Decides(
        profiles=profile,
        options=options.model_dump(
            mode="json", exclude={**NEUTRAL, "concurrency": True, "sandbox": {"workers"}}
        ),
        engine=model_identity(resolve_model(options.model)),
        seed=seed,
        more=rows_digest(rows),
    )
    return content_key("grpo", decides.digest())
