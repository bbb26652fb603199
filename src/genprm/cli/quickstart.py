"""`genprm quickstart`: all six parts in the built-in world, then a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN, Set

if TYPE_CHECKING:
    from genprm.records import Report


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quickstart")(quickstart)


def quickstart(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Overrides: section.key=value, as with --set.", show_default=False),
    ] = None,
    more: Set = None,
    run_dir: Annotated[Path, typer.Option("--run-dir", "-o", help="Run directory.", **WRITTEN)] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Run all six parts of the method in the built-in arithmetic world, with tiny real models.

    Interrupt it at any time; the same command continues where it stopped. The results are in
    report.json and report.html of the run directory.
    """
    from genprm.aio import run_sync
    from genprm.cli.console import Bars
    from genprm.config import load_config
    from genprm.worlds.arithmetic.quickstart import QuickstartConfig, quickstart_defaults, run_quickstart

    changes = [*(overrides or []), *(more or [])]
    config = load_config(None, changes, model=QuickstartConfig, base=quickstart_defaults())
    with Bars() as bars:
        report = run_sync(run_quickstart(config, run_dir, bars))
    print_report(report, run_dir)


def print_report(report: Report, run_dir: Path) -> None:
    """Print the figures of a quickstart as tables."""
    from rich.table import Table

    from genprm.cli.console import make_console
    from genprm.cli.evaluate import shown
    from genprm.view.parts import main_votes

    console = make_console()
    if report.labels is not None and report.consensus is not None:
        accuracy = ", ".join(f"{method} {shown(share)}" for method, share in report.labels.accuracy.items())
        console.print(f"Label accuracy against the truth ({report.labels.rows} solutions): {accuracy}")
        before, after = report.consensus.accuracy_before, report.consensus.accuracy_after
        console.print(
            f"Consensus filter: {report.consensus.kept} solutions kept, {report.consensus.dropped} dropped; label "
            f"accuracy {shown(before)} before, {shown(after)} after"
        )
    if report.localisation is not None:
        found = report.localisation
        title = f"First error found, {found.solutions} unseen solutions"
        table = Table("verifier", "Pass@1 F1", "votes", "F1 with votes", title=title)
        for mode, by_votes in found.modes.items():
            main = main_votes(by_votes)
            table.add_row(
                mode, shown(by_votes["pass@1"].f1), main.rpartition("@")[2], shown(by_votes[main].f1)
            )
        console.print(table)
    if report.best_of_n is not None:
        sizes = report.best_of_n.sizes
        rules = list(next(iter(sizes.values())))
        table = Table("N", *rules, title=f"Best-of-N accuracy, {report.best_of_n.problems} problems")
        for n, row in sizes.items():
            table.add_row(str(n), *(shown(row[rule]) for rule in rules))
        console.print(table)
    if report.refinement is not None:
        turns = [str(turn) for turn in range(len(report.refinement.critic))]
        title = f"Refinement accuracy, {report.refinement.problems} problems"
        table = Table("turn", *turns, title=title)
        table.add_row("critic", *map(shown, report.refinement.critic))
        table.add_row("self", *map(shown, report.refinement.self))
        console.print(table)
    for note in report.notes:
        console.print(f"Note: {note}", style="dim")
    console.print(
        f"Values in percent with 95 % intervals; {report.seconds or 0:.0f} s of work. "
        f"Open {run_dir / 'report.html'} to read verified solutions."
    )
