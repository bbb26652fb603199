"""`genprm decontaminate`: files without what evaluation sets hold, and without near duplicates."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genprm.cli.flags import WRITTEN
from genprm.errors import ConfigError
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.records import LabelledSolution, Problem, TrainingSample


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("decontaminate")(decontaminate)


def decontaminate(
    source: Annotated[
        str,
        typer.Argument(
            help="Problems, or with --layout labelled solutions or chats: a file, hub:ID, or -.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File to write: .jsonl or .parquet.", show_default=False, **WRITTEN
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="An evaluation set: NAME=FILE or NAME=hub:ID; repeatable.",
            show_default=False,
        ),
    ] = None,
    near_duplicates: Annotated[
        float | None,
        typer.Option(
            help="Leave out rows that are as similar as this to an earlier one, for example 0.8.",
            min=0.1,
            max=0.95,
            show_default="they stay",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="How rows become problems: plain, gsm8k, math or svamp.")
    ] = "plain",
    layout: Annotated[
        str | None,
        typer.Option(
            help="The rows are no problems: auto, chats, stepwise, prm800k, math-shepherd, processbench or genprm.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Of a hub data set.")] = "train",
) -> None:
    """Leave out rows whose problems are in evaluation sets (13 words in a row in common), and near duplicates.

    Standard error says how many rows were left out, why, and gives examples with the words in common.
    """
    from genprm.api.screening import decontaminate as screen
    from genprm.sources import write_layout
    from genprm.sources.counted import CountedRows

    sets = _sets(against or ())
    if not sets and near_duplicates is None:
        raise ConfigError(
            "nothing to leave out", hint="Name evaluation sets with --against, or give --near-duplicates."
        )
    rows: Any = _rows(source, preset, layout, split)
    screened = screen(rows, sets, near_duplicates=near_duplicates)
    try:
        written = write_layout(screened, output)
    finally:
        if isinstance(rows, CountedRows):
            sys.stderr.write(rows.summary())
        sys.stderr.write(screened.summary())
    sys.stdout.write(f"{counted(written.rows, 'row')} in {output}\n")


def _sets(given: Iterable[str]) -> dict[str, str]:
    """Evaluation sets by their names.

    Raises:
        ConfigError: one has no name, or that of another.
    """
    sets: dict[str, str] = {}
    for name, source in map(_named, given):
        if name in sets:
            raise ConfigError(
                f"--against: two evaluation sets are called '{name}': {sets[name]} and {source}",
                hint=f"Give each a name of its own, for example {name}-2={source}.",
            )
        sets[name] = source
    return sets


def _named(text: str) -> tuple[str, str]:
    name, found, source = text.partition("=")
    if not (name and found and source):
        raise ConfigError(
            f"--against: '{text}' is not NAME=FILE", hint="For example: --against gsm8k=gsm8k/test.jsonl"
        )
    return name, source


def _rows(
    source: str, preset: str, layout: str | None, split: str
) -> Iterable[Problem | LabelledSolution | TrainingSample]:
    from genprm.config import ProblemsConfig
    from genprm.sources import iterate_problems, iterate_rows

    if layout is None:
        return iterate_problems(ProblemsConfig(source=source, preset=preset, split=split))
    if preset != "plain":
        raise ConfigError("--preset is for problems, --layout for other rows", hint="Give one of them.")
    return iterate_rows(source, split, layout=layout)
