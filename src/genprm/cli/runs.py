"""`genprm run`: a pipeline from a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import Set
from genprm.errors import ConfigError

if TYPE_CHECKING:
    from genprm.config import RunConfig
    from genprm.runs import RunResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    config: Annotated[Path, typer.Argument(help="YAML config of the run.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Overrides: section.key=value, as with --set.", show_default=False),
    ] = None,
    more: Set = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-o", help="Run directory.", show_default="runs/CONFIG-NAME")
    ] = None,
    until: Annotated[
        str,
        typer.Option(
            help="Last stage to complete: solutions, montecarlo, labels, rationales, consensus, chats, "
            "verifications or train."
        ),
    ] = "train",
    executor: Annotated[
        str | None,
        typer.Option(help="Where shards are worked on: local or ray.", show_default="executor.kind: local"),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of the Ray cluster, or auto.",
            show_default="executor.address: see the reference",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with its costs; call nothing.")
    ] = False,
) -> None:
    """Run the pipeline of a config, or resume it: solutions, scores, labels, rationales, consensus, chats, training.

    A run that was killed continues where it stopped. The config inside a run directory repeats that run.
    """
    from genprm.api.configs import read_run_config
    from genprm.cli.console import Bars

    flags = {"executor.kind": executor, "executor.address": address}
    extra = [f"{key}={value}" for key, value in flags.items() if value is not None]
    settings = read_run_config(config, [*(overrides or []), *(more or []), *extra])
    if address is not None and settings.executor.kind != "ray":
        raise ConfigError("--address is of a Ray cluster", hint="Add --executor ray, or leave it out.")
    folder = run_dir or _default_folder(config)
    if dry_run:
        _print_plan(settings, until, folder)
        return
    from genprm.api.pipelines import run as run_config

    with Bars() as bars:
        result = run_config(settings, folder, until=until, progress=bars)
    _print_result(result)


def _default_folder(config: Path) -> Path:
    """`runs/NAME`; the run itself for the config that a run directory holds."""
    if config.name == "config.yaml" and (config.parent / "run.json").is_file():
        return config.parent
    return Path("runs") / config.stem


def _print_result(result: RunResult) -> None:
    from rich.table import Table

    from genprm.cli.console import make_console

    console = make_console()
    table = Table(
        "stage", "problems", "rows", "dropped, by reason", "tokens", "seconds", title=str(result.folder)
    )
    for row in result.summaries.values():
        reasons = ", ".join(f"{reason} {count}" for reason, count in row.reasons.items()) or "-"
        tokens = f"{row.usage.completion_tokens:,}"
        table.add_row(row.stage, str(row.problems), str(row.rows), reasons, tokens, f"{row.seconds:.1f}")
    console.print(table)
    if result.trained is not None:
        console.print(
            f"The trained model: {result.trained.path}\n"
            f"Use it: genprm verify --model {result.trained.path} --problem TEXT --solution TEXT",
            soft_wrap=True,
        )


def _print_plan(config: RunConfig, until: str, folder: Path) -> None:
    from rich.table import Table

    from genprm.cli.console import make_console
    from genprm.runs import Assumptions, plan_run

    assume = Assumptions()
    plan = plan_run(config, until, assume, folder)
    begun = any(stage.finished for stage in plan)
    columns = ["stage", "engine", "items", "calls", "at most", "tokens", *(["finished"] if begun else [])]
    table = Table(*columns, title="Plan (nothing was called)")
    for stage in plan:
        figures = (stage.items, stage.calls, stage.calls_at_most, stage.tokens)
        share = [f"{stage.finished:.0%}"] if begun else []
        table.add_row(stage.stage, stage.engine, *(f"{figure:,}" for figure in figures), *share)
    console = make_console()
    console.print(table)
    if begun:
        console.print(f"What is finished in {folder} is taken from there; the figures are for the rest.")
    console.print(
        f"Assumed: {assume.steps:g} steps per solution, {assume.step_tokens:g} tokens per step, "
        f"{assume.pass_rate:.0%} of samples correct, {assume.rationale_step_tokens:g} rationale tokens per step, "
        f"{assume.kept:.0%} kept by the consensus filter."
    )
