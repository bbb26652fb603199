"""`genprm train-grpo` and `train-dpo`: a verifier trained further on its own rollouts, or on its own votes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN, Seed
from genprm.cli.labelled import labelled_rows
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.training.rl import DpoProgress, StepFigures

Data = Annotated[
    str,
    typer.Argument(
        help="Step labels: a run directory, a file in any layout of 'genprm import', or hub:ID.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder for the trained model.", show_default=False, **WRITTEN),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="The fine-tuned verifier to start from: a folder, a hub id or builtin:verifier.",
        show_default="model of the config",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML with keys of the section of this name.", show_default=False),
]
Override = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override of the config: key=value; repeatable.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train-grpo")(train_grpo)
    app.command("train-dpo")(train_dpo)


def train_grpo(
    data: Data,
    folder: Folder,
    model: Model = None,
    config: Config = None,
    override: Override = None,
    seed: Seed = None,
) -> None:
    """Train a verifier further by GRPO: it verifies labelled solutions, and verdicts that are the labels are rewarded.

    Code is executed inside the rollouts. The same command resumes a job that was killed.
    """
    from genprm.api.rl import train_grpo as fit
    from genprm.cli.console import Bars, Steps, one_report
    from genprm.config import GrpoConfig, load_config
    from genprm.view.model_card import course_of

    chosen = load_config(config, _with_model(override, model), model=GrpoConfig)
    rows = labelled_rows(data)
    with Bars() as bars:
        follow = Steps(bars, "train-grpo")

        def step(state: StepFigures) -> None:
            follow(state.step, state.total)

        with one_report():
            report = fit(rows, folder, chosen, seed=seed or 0, progress=step, on_repair=bars.note)
        follow.end(report.steps)
    warning = f"warning: {report.warning}\n" if report.warning else ""
    totals = {name: sum(step[name] for step in report.outcomes) for name in report.outcomes[0]}
    sys.stdout.write(
        f"{counted(report.solutions, 'solution')}, {counted(report.steps, 'step')}, mean reward "
        f"{course_of(report.rewards)}\n"
        f"turns: {', '.join(f'{count} {name}' for name, count in totals.items())}\n{warning}"
        f"Use it: genprm verify --model {folder} --problem TEXT --solution TEXT\n"
    )


def train_dpo(
    data: Data,
    votes: Annotated[
        str | None,
        typer.Option(
            help="Verifications of these solutions: a run directory, or a file of 'genprm verify --json'.",
            show_default="those of the run",
        ),
    ] = None,
    *,
    folder: Folder,
    model: Model = None,
    config: Config = None,
    override: Override = None,
    seed: Seed = None,
) -> None:
    """Train a verifier further by DPO: its votes that agree with a step's label are preferred to those that do not.

    The same command resumes a job that was killed.
    """
    from genprm.api.rl import load_verifications
    from genprm.api.rl import train_dpo as fit
    from genprm.cli.console import Bars, Steps, one_report
    from genprm.config import DpoConfig, load_config
    from genprm.errors import ConfigError

    chosen = load_config(config, _with_model(override, model), model=DpoConfig)
    if votes is None and not Path(data).is_dir():
        raise ConfigError(f"{data} holds labels and no votes", hint="Give the verifications with --votes.")
    verifications = load_verifications(data if votes is None else votes)
    rows = labelled_rows(data)
    with Bars() as bars:
        follow = Steps(bars, "train-dpo")

        def step(state: DpoProgress) -> None:
            follow(state.step, state.total)

        with one_report():
            report = fit(
                verifications, rows, folder, chosen, seed=seed or 0, progress=step, on_repair=bars.note
            )
        follow.end(report.steps)
    counts = ", ".join(f"{count} {name}" for name, count in report.counts.items() if count)
    sys.stdout.write(
        f"{counted(report.pairs, 'pair')} ({counts}; {report.dropped_too_long} too long, "
        f"{report.dropped_unfit} unfit), loss "
        f"{report.losses[0]:.3f} to {report.losses[-1]:.3f}, margin {report.margins[0]:.3f} to "
        f"{report.margins[-1]:.3f}\n"
        f"Use it: genprm verify --model {folder} --problem TEXT --solution TEXT\n"
    )


def _with_model(override: list[str] | None, model: str | None) -> list[str]:
    return [*(override or []), *([f"model={model}"] if model is not None else [])]
