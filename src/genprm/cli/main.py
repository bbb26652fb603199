"""The command line. Parses, builds, calls; everything heavy is imported inside the commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import genprm
from genprm.cli import doctor, evaluate, pipeline, quickstart, verify
from genprm.cli.console import show_error
from genprm.errors import GenPRMError

app = typer.Typer(
    name="genprm",
    help="Train, run and serve generative process reward models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
quickstart.register(app)
pipeline.register(app)
verify.register(app)
evaluate.register(app)
doctor.register(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(genprm.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Train, run and serve generative process reward models."""


def main() -> None:
    """Entry point of the `genprm` command: users' mistakes end in one message, not in a traceback."""
    try:
        app()
    except GenPRMError as error:
        show_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Finished shards are kept; run the same command to go on.\n")
        sys.exit(130)
