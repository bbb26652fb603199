"""`genprm quickstart`: all six parts in the built-in world, then a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quickstart")(quickstart)


def quickstart(
    overrides: Annotated[list[str] | None, typer.Argument(help="Overrides: section.key=value.")] = None,
    run_dir: Annotated[Path, typer.Option("--run-dir", "-o", help="Run directory.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Run all six parts of the method in the built-in arithmetic world, with tiny real models.

    Interrupt it at any time; the same command goes on where it stopped. The results are in
    report.json and report.html of the run directory.
    """
    import asyncio

    from genprm.cli.console import Bars
    from genprm.config import load_config
    from genprm.worlds.arithmetic.quickstart import QuickstartConfig, quickstart_defaults, run_quickstart

    config = load_config(None, overrides or [], model=QuickstartConfig, base=quickstart_defaults())
    with Bars() as bars:
        report = asyncio.run(run_quickstart(config, run_dir, bars))
    _print(report, run_dir)


def _print(report: dict[str, Any], run_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    labels, consensus = report["labels"], report["consensus"]
    accuracy = ", ".join(f"{method} {_percent(value)}" for method, value in labels["accuracy"].items())
    console.print(f"Label accuracy against the truth ({labels['rows']} solutions): {accuracy}")
    console.print(
        f"Consensus filter: {consensus['kept']} solutions kept, {consensus['dropped']} dropped; label accuracy "
        f"{_percent(consensus['accuracy_before'])} before, {_percent(consensus['accuracy_after'])} after"
    )
    localisation = report["localisation"]
    compared = list(localisation["direct"])
    table = Table(
        "verifier",
        *(f"{votes.capitalize()} F1" for votes in compared),
        title=f"First error found, {localisation['solutions']} unseen solutions",
    )
    for mode in ("direct", "cot", "cot+code", "cot+code+execution"):
        row = localisation[mode]
        table.add_row(mode, *(_percent(row[votes]["f1"]) for votes in compared))
    console.print(table)
    best = report["best_of_n"]
    rules = ("pass@1", "majority", "last", "mean", "min", "pass@n")
    table = Table("N", *rules, title=f"Best-of-N accuracy, {best['problems']} problems")
    for n in ("1", "2", "4", "8", "16"):
        table.add_row(n, *(_percent(best[n][rule]) for rule in rules))
    console.print(table)
    refinement = report["refinement"]
    table = Table(
        "turn", "0", "1", "2", "3", title=f"Refinement accuracy, {refinement['problems']} problems"
    )
    for kind in ("critic", "self"):
        table.add_row(kind, *(_percent(value) for value in refinement[kind]))
    console.print(table)
    for note in report["notes"]:
        console.print(f"Note: {note}", style="dim")
    console.print(
        f"{report['seconds']:.0f} s of work. Open {run_dir / 'report.html'} to read verified solutions."
    )


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"
