"""`genprm run`, and one command for each stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genprm.errors import ConfigError

if TYPE_CHECKING:
    from genprm.config import RunConfig
    from genprm.runs import StagePlan

ConfigPath = Annotated[Path, typer.Argument(help="YAML config of the run.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="Overrides: section.key=value.")]
RunDir = Annotated[
    Path | None, typer.Option("--run-dir", "-o", help="Run directory; default runs/CONFIG-NAME.")
]

_STAGE_HELP = {
    "solutions": "Sample step-by-step solutions, balanced between correct and incorrect.",
    "montecarlo": "Estimate every step's Monte-Carlo reward.",
    "label": "Label every step by relative progress.",
    "rationales": "Let the teacher analyse and verify every step, executing its code.",
    "filter": "Keep what teacher and labels agree on, and build training chats.",
    "train": "Fine-tune the verifier.",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    for stage, text in _STAGE_HELP.items():
        app.command(stage, help=f"{text} Completes the stages before it where the run lacks them.")(
            _command(stage)
        )


def _command(stage: str) -> Any:
    def command(config: ConfigPath, overrides: Overrides = None, run_dir: RunDir = None) -> None:
        _execute(config, overrides or [], run_dir, stage)

    return command


def run(
    config: ConfigPath,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    until: Annotated[str, typer.Option(help="Last stage to complete.")] = "train",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with its costs; call nothing.")
    ] = False,
) -> None:
    """Run the whole pipeline of a config, or resume it."""
    from genprm.runs import STAGES

    if until not in STAGES:
        raise ConfigError(f"there is no stage '{until}'", hint=f"Stages: {', '.join(STAGES)}.")
    if dry_run:
        _print_plan(_load(config, overrides or []), until)
    else:
        _execute(config, overrides or [], run_dir, until)


def _load(path: Path, overrides: list[str]) -> RunConfig:
    from genprm.config import RunConfig, load_config

    return load_config(path, overrides, model=RunConfig)


def _execute(path: Path, overrides: list[str], run_dir: Path | None, until: str) -> None:
    import asyncio

    config = _load(path, overrides)
    folder = run_dir or Path("runs") / path.stem
    asyncio.run(_run(config, folder, until))
    _print_summaries(folder)


async def _run(config: RunConfig, folder: Path, until: str) -> None:
    from genprm.cli.console import Bars
    from genprm.config import dump_config
    from genprm.runs import Pipeline, Resources
    from genprm.runs.facts import run_facts
    from genprm.store import RunStore

    with RunStore(folder, format=config.store.format) as store, Bars() as bars:
        store.describe(dump_config(config), run_facts(config.seed))
        async with Resources(config.sandbox, store) as resources:
            await Pipeline(config, store, resources, bars).run_until(until)


def _print_summaries(folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from genprm.store import RunStore

    order = ("solutions", "montecarlo", "label", "rationales", "consensus", "filter")
    rows = {row.stage: row for row in RunStore(folder).summaries()}
    table = Table("stage", "items", "rows", "dropped, by reason", "tokens", "seconds", title=str(folder))
    for row in (rows[stage] for stage in order if stage in rows):
        reasons = ", ".join(f"{reason} {count}" for reason, count in row.reasons.items()) or "-"
        tokens, seconds = str(row.usage.completion_tokens), f"{row.seconds:.1f}"
        table.add_row(row.stage, str(row.items), str(row.rows), reasons, tokens, seconds)
    Console().print(table)


def _print_plan(config: RunConfig, until: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from genprm.runs import Assumptions, plan_run
    from genprm.runs.problems import load_run_problems

    assume = Assumptions()
    problems = len(load_run_problems(config.problems, config.seed))
    plan: list[StagePlan] = plan_run(config, problems, until, assume)
    table = Table(
        "stage", "engine", "items", "calls", "at most", "tokens", title="Plan (nothing was called)"
    )
    for stage in plan:
        table.add_row(
            stage.stage,
            stage.engine,
            f"{stage.items:,}",
            f"{stage.calls:,}",
            f"{stage.calls_at_most:,}",
            f"{stage.tokens:,}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"Assumed: {assume.steps:g} steps a solution, {assume.step_tokens:g} tokens a step, "
        f"{assume.pass_rate:.0%} of samples correct, {assume.rationale_step_tokens:g} rationale tokens a step, "
        f"{assume.kept:.0%} kept by the filter."
    )
