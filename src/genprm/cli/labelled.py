"""`genprm import`, `train-prm` and `card`: data from elsewhere, a discriminative model on labels, a model's card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genprm.cli.flags import WRITTEN, Seed
from genprm.errors import DataError
from genprm.text.counts import counted

if TYPE_CHECKING:
    from genprm.records import LabelledSolution, Report
    from genprm.training.prm import PrmProgress


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_rows)
    app.command("train-prm")(train_prm)
    app.command("card")(card)


def import_rows(
    source: Annotated[
        str,
        typer.Argument(help="JSONL, JSON, Parquet, hub:ID, or - for standard input.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="File to write: .jsonl or .parquet.", show_default=False, **WRITTEN
        ),
    ],
    layout: Annotated[
        str,
        typer.Option(help="auto, chats, stepwise, prm800k, math-shepherd, processbench or genprm."),
    ] = "auto",
    split: Annotated[str, typer.Option(help="Of a hub data set.")] = "train",
) -> None:
    """Read step labels or training chats made elsewhere, check them, and write them as genprm's own rows.

    A row that cannot be used is left out; standard error says how many were, why, and where the first one stands.
    """
    from genprm.sources import iterate_rows, write_layout

    rows = iterate_rows(source, split, layout=layout)
    written = write_layout(rows, output)
    sys.stderr.write(rows.summary())
    sys.stdout.write(f"{counted(written.rows, 'row')} in {output}\n")


def train_prm(
    data: Annotated[
        str,
        typer.Argument(
            help="A run directory with labels, a file of labelled solutions in any layout of 'genprm import', or hub:ID.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the trained model.", show_default=False, **WRITTEN),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="The model to train: a folder or a hub id.", show_default="model of the config"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML with keys of the section prm.", show_default=False),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", help="Override of the config: key=value; repeatable.", show_default=False
        ),
    ] = None,
    seed: Seed = None,
) -> None:
    """Train a discriminative process reward model on step labels; the same command resumes a job that was killed."""
    from genprm.api.labelled import train_prm as fit
    from genprm.cli.console import Bars, Steps, one_report
    from genprm.config import PrmConfig, load_config

    extra = [*(override or []), *([f"model={model}"] if model is not None else [])]
    chosen = load_config(config, extra, model=PrmConfig)
    rows = labelled_rows(data)
    with Bars() as bars:
        follow = Steps(bars, "train-prm")

        def step(state: PrmProgress) -> None:
            follow(state.step, state.total)

        with one_report():
            report = fit(rows, folder, chosen, seed=seed or 0, progress=step, on_repair=bars.note)
        follow.end(report.steps)
    sys.stdout.write(
        f"{counted(report.solutions, 'solution')}, {report.right_steps} right and {report.wrong_steps} wrong steps, "
        f"loss {report.losses[0]:.3f} to {report.losses[-1]:.3f}\n"
        f"Use it: genprm verify --model {folder} --problem TEXT --solution TEXT\n"
    )


def labelled_rows(data: str) -> list[LabelledSolution]:
    """The rows of a run or a source, with a word about those that were left out."""
    from genprm.api.labelled import run_labelled
    from genprm.sources import iterate_labelled

    if Path(data).is_dir():
        found = list(run_labelled(data))
        if not found:
            raise DataError(
                f"the run {data} holds no labelled solutions", hint=f"'genprm dropped {data}' says why"
            )
        return found
    rows = iterate_labelled(data)
    found = list(rows)
    sys.stderr.write(rows.summary())
    return found


def card(
    folder: Annotated[Path, typer.Argument(help="A folder that genprm trained.", show_default=False)],
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", help="The run that made its training data.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="report.json of 'genprm eval' on this model.", show_default=False),
    ] = None,
) -> None:
    """Write a model card, README.md, beside a trained model: its data, its training, and what was measured."""
    from genprm.view.model_card import write_model_card

    measured = None if report is None else _report(report)
    write_model_card(folder, run=run_dir, report=measured)
    sys.stdout.write(f"{folder / 'README.md'}\n")


def _report(path: Path) -> Report:
    from genprm.errors import ConfigError
    from genprm.records import Report

    hint = "Give report.json of 'genprm eval'."
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except ValueError:  # of JSON, of its encoding, or of what it holds
        raise ConfigError(f"{path} is not a report", hint=hint) from None
