"""`genprm eval`: a verifier on a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN, Config, Profile, Seed, Set, Votes, engine_flags, settings

if TYPE_CHECKING:
    from genprm.config import EngineConfig
    from genprm.records import Report, Share


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval")(evaluate)


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="Benchmark: processbench.", show_default=False)],
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Its files, one per split: JSON, JSONL, CSV or Parquet; or hub:ID.", show_default=False
        ),
    ],
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir", "-o", help="Run directory.", show_default="runs/BENCHMARK-MODEL", **WRITTEN
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A folder, a hub id or builtin:verifier; with --url the server's name.", show_default=False
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Base URL of an OpenAI-compatible server.", show_default=False)
    ] = None,
    config: Config = None,
    override: Set = None,
    profile: Profile = None,
    votes: Votes = None,
    seed: Seed = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="At most so many rows of each split, drawn by the seed, erroneous and right ones in proportion.",
            min=1,
            show_default="all",
        ),
    ] = None,
) -> None:
    """Measure a verifier on a benchmark; prints a table and writes report.json and report.html."""
    from genprm.api.evaluation import evaluate as measure
    from genprm.cli.console import Bars

    engine = engine_flags(model, url, "", settings(config, override).roles.verifier)
    chosen = settings(config, override, engine=engine, profile=profile, votes=votes, seed=seed)
    folder = run_dir or Path("runs") / f"{benchmark}-{_short(engine)}"
    with Bars() as bars:
        report = measure(
            benchmark,
            data,
            engine,
            folder,
            config=chosen,
            limit=limit,
            progress=bars,
        )
    _print(report, folder)


def _short(engine: EngineConfig) -> str:
    """The model's name, or that of its server, as part of a file name."""
    model = engine.options.get("model")
    name = Path(str(model)).name if model else str(engine.options.get("base_urls", "")).partition("://")[2]
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in name).strip("-") or "model"


def _print(report: Report, folder: Path) -> None:
    from rich.table import Table

    from genprm.cli.console import make_console

    benchmark = report.benchmark
    assert benchmark is not None
    columns = ("split", "votes", "error acc.", "correct acc.", "F1", "unparsed", "failed", "rows")
    table = Table(*columns, title=f"{benchmark.name}, {benchmark.model.name}")
    for name, by_votes in {**benchmark.splits, "average": benchmark.average}.items():
        for votes, row in by_votes.items():
            shares = (row.error_accuracy, row.correct_accuracy, row.f1, row.unparsed, row.failed)
            count = f"{row.erroneous} wrong, {row.correct} right"
            table.add_row(name, votes, *map(shown, shares), count)
    console = make_console()
    console.print(table)
    for note in report.notes:
        console.print(f"Note: {note}", soft_wrap=True)
    console.print(
        f"Values in percent with 95 % intervals. Open {folder / 'report.html'} to read verified solutions."
    )


def shown(share: Share) -> str:
    """A share as a table's cell."""
    if share.value is None:
        return f"unknown ({share.reason})"
    if share.low is None or share.high is None:
        return f"{share.value:.1f}"
    return f"{share.value:.1f} [{share.low:.1f}, {share.high:.1f}]"
