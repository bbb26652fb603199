"""`genprm run`: a pipeline from a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN, Set
from genprm.errors import ConfigError
from genprm.text.counts import counted_tokens

if TYPE_CHECKING:
    from genprm.config import RunConfig
    from genprm.records import RunPrediction, StagePrediction
    from genprm.runs import RunResult
    from genprm.store import StageSummary


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
        Path | None,
        typer.Option("--run-dir", "-o", help="Run directory.", show_default="runs/CONFIG-NAME", **WRITTEN),
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
        bool, typer.Option("--dry-run", help="Print the plan with its costs; call nothing but a pilot.")
    ] = False,
    pilot: Annotated[
        int | None,
        typer.Option(
            help="With --dry-run: run so many problems first, in whole shards, and predict the cost of all from them.",
            min=1,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the pipeline of a config, or resume it: solutions, scores, labels, rationales, consensus, chats, training.

    A run that was killed continues where it stopped. The config inside a run directory repeats that run. A pilot is the
    run's beginning; at its end a run says what the pilot predicted, and what it was.
    """
    if pilot is not None and not dry_run:
        raise ConfigError("--pilot is about the plan", hint="Give it together with --dry-run.")
    from genprm.cli.console import Bars
    from genprm.config import read_run_config

    flags = {"executor.kind": executor, "executor.address": address}
    extra = [f"{key}={value}" for key, value in flags.items() if value is not None]
    settings = read_run_config(config, [*(overrides or []), *(more or []), *extra])
    if address is not None and settings.executor.kind != "ray":
        raise ConfigError("--address is of a Ray cluster", hint="Add --executor ray, or leave it out.")
    folder = run_dir or _default_folder(config)
    if pilot is not None:
        from genprm.aio import run_sync
        from genprm.runs import run_pilot

        with Bars() as bars:
            predicted = run_sync(run_pilot(settings, folder, pilot, until=until, progress=bars))
        _print_prediction(predicted)
        return
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
        tokens = counted_tokens(row.usage.completion_tokens, row.usage.uncounted)
        table.add_row(row.stage, str(row.problems), str(row.rows), reasons, tokens, f"{row.seconds:.1f}")
    console.print(table)
    _print_comparison(result)
    if result.trained is not None:
        console.print(
            f"The trained model: {result.trained.path}\n"
            f"Use it: genprm verify --model {result.trained.path} --problem TEXT --solution TEXT",
            soft_wrap=True,
        )


def _print_prediction(found: RunPrediction) -> None:
    from rich.table import Table

    from genprm.cli.console import make_console

    table = Table(
        "stage", "rows", "calls", "tokens read", "tokens written", "95 %", "engine, h", "wall, h",
        title=f"{found.problems:,} problems, predicted from {found.pilot:,}",
    )  # fmt: skip
    for one in found.stages:
        counts = (one.rows, one.requests)
        tokens = [counted_tokens(n, one.uncounted) for n in (one.prompt_tokens, one.completion_tokens)]
        hours = (one.engine_seconds / 3600, one.seconds / 3600)
        table.add_row(
            one.stage, *(f"{n:,}" for n in counts), *tokens, _between(one), *(f"{n:,.2f}" for n in hours)
        )
    console = make_console()
    console.print(table)
    console.print(
        "Engine hours are waits summed over concurrent calls; wall hours are at the pilot's pace, which a run that keeps "
        "the engine busier undercuts. The pilot's problems are done: the run continues behind them."
    )


def _print_comparison(result: RunResult) -> None:
    """What a pilot predicted, beside what came; nothing of stages whose options changed since."""
    from rich.table import Table

    from genprm.cli.console import make_console
    from genprm.runs import read_prediction

    found = read_prediction(result.folder)
    pairs = [] if found is None else _comparable(found, result.summaries)
    if found is None or not pairs:
        return
    table = Table(
        "stage", "calls", "tokens written", "95 %", "wall, h",
        title=f"Predicted from {found.pilot:,} problems, and actual",
    )  # fmt: skip
    for one, actual in pairs:
        spent = actual.usage
        table.add_row(
            one.stage,
            f"{one.requests:,} / {spent.requests:,}",
            " / ".join(counted_tokens(cost.completion_tokens, cost.uncounted) for cost in (one, spent)),
            _between(one),
            f"{one.seconds / 3600:,.2f} / {actual.seconds / 3600:,.2f}",
        )
    make_console().print(table)


def _comparable(
    found: RunPrediction, summaries: dict[str, StageSummary]
) -> list[tuple[StagePrediction, StageSummary]]:
    """Stages of the predicted size and recipe."""
    kept = summaries["problems"].rows if "problems" in summaries else None
    if kept != found.problems:
        return []
    pairs = [(one, summaries[one.stage]) for one in found.stages if one.stage in summaries]
    return [(one, actual) for one, actual in pairs if one.recipe == actual.recipe]


def _between(one: StagePrediction) -> str:
    return "-" if one.tokens_low is None or one.uncounted else f"{one.tokens_low:,} to {one.tokens_high:,}"


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
    states = f"{assume.sampled:.0%} of K samples per state, " if config.montecarlo.rule_decides else ""
    console.print(
        f"Assumed: {assume.steps:g} steps per solution, {assume.step_tokens:g} tokens per step, "
        f"{assume.pass_rate:.0%} of samples correct, {assume.rationale_step_tokens:g} rationale tokens per step, "
        f"{states}{assume.kept:.0%} kept by the consensus filter."
    )
