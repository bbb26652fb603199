"""`genprm export`: the rows of a run's stages, and rows and models in the forms that other programs read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN
from genprm.errors import ConfigError
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.records import LabelledSolution, TrainingSample


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run directory; with --layout also a file of labelled solutions or chats.",
            show_default=False,
        ),
    ],
    stage: Annotated[
        str | None, typer.Argument(help="A stage; its rows are printed as JSON lines.", show_default=False)
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Write labels as stepwise or genprm, or chats as conversations, messages or genprm, to --output.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="With --layout: file to write, .jsonl or .parquet.",
            show_default=False,
            **WRITTEN,
        ),
    ] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="What the stage did not pass on, instead.")
    ] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Rows of an unfinished stage, too.")] = False,
) -> None:
    """Print the current rows of a stage as JSON lines; without a stage, list the stages.

    With --layout, write step labels or chats in a form that other programs read, and a data card beside them: what they
    hold, how they were made, what was dropped, and what it cost.
    """
    if (layout is None) != (output is None):
        raise ConfigError(
            "one of --layout and --output is given without the other",
            hint="For example: genprm export RUN labels --layout stepwise -o labels.parquet",
        )
    if (dropped or partial) and (stage is None or layout is not None):
        raise ConfigError(
            f"{'--dropped' if dropped else '--partial'} is about printing the rows of a stage",
            hint="For example: genprm export RUN rationales --dropped",
        )
    if layout is not None and output is not None:
        _write(source, stage, output, layout)
        return
    _print(source, stage, dropped=dropped, partial=partial)


def _print(source: Path, stage: str | None, *, dropped: bool, partial: bool) -> None:
    from genprm.store import RunReader

    reader = RunReader(source)
    if stage is None:
        for one in reader.stages():
            state = counted(one.rows, "row") if one.complete else "not complete"
            sys.stdout.write(f"{one.stage}: {state}\n")
        return
    rows = reader.dropped(stage, partial=partial) if dropped else reader.rows(stage, partial=partial)
    for row in rows:
        sys.stdout.write(row.model_dump_json() + "\n")


def _rows(source: Path, stage: str | None) -> Iterable[LabelledSolution | TrainingSample]:
    """Labelled solutions or chats of a run or of a file."""
    if not source.is_dir():
        from genprm.sources import iterate_rows

        return iterate_rows(source)
    from genprm.api.labelled import run_labelled
    from genprm.store import RunReader

    if stage == "labels":
        return run_labelled(source)
    if stage == "chats":
        rows: Iterable[TrainingSample] = RunReader(source).rows(stage)
        return rows
    raise ConfigError(
        f"the stage '{stage}' has no other layout" if stage else "no stage is named",
        hint="Name labels or chats.",
    )


def _write(source: Path, stage: str | None, output: Path, layout: str) -> None:
    from genprm.sources import write_layout
    from genprm.sources.counted import CountedRows
    from genprm.view.data_card import write_data_card

    rows = _rows(source, stage)
    written = write_layout(rows, output, layout)
    card = write_data_card(output, layout, written, source if source.is_dir() else None)
    if isinstance(rows, CountedRows):
        sys.stderr.write(rows.summary())
    notes = [f"{written.left_out} left out: the first step's label is unknown"] if written.left_out else []
    if written.shortened:
        notes.append(f"{written.shortened} written up to their first unknown label")
    sys.stdout.write("; ".join([f"{counted(written.rows, 'row')} in {output}", *notes]) + "\n")
    sys.stderr.write(f"how they were made: {card}\n")
