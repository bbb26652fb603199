"""The command line. Parses, builds, calls; everything heavy is imported inside the commands."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import genprm
from genprm.cli import (
    data,
    doctor,
    evaluate,
    export,
    inspect,
    labelled,
    quickstart,
    rl,
    runs,
    scaling,
    screening,
    serve,
    verify,
)
from genprm.cli.console import show_error, tell_launcher
from genprm.errors import GenPRMError, StoreError


class _Commands(TyperGroup):
    """The commands; an interrupt says what becomes of the work."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            kept = "Finished work is kept; run the same command to continue."
            sys.stderr.write(f"\nInterrupted. {interrupt.args[0] if interrupt.args else kept}\n")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    name="genprm",
    help="Train, run and serve generative process reward models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (
    quickstart,
    verify,
    serve,
    runs,
    inspect,
    scaling,
    labelled,
    screening,
    rl,
    data,
    export,
    evaluate,
    doctor,
):
    module.register(app)


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
    """Entry point of the `genprm` command: users' mistakes end in one message, not in a traceback.

    Exit codes: 0 done, 1 a mistake or a failure that the message names, 2 wrong usage, 130 interrupted.
    """
    _open_missing_streams()
    try:
        app()
        sys.stdout.flush()
    except GenPRMError as error:
        show_error(error)
        tell_launcher(error)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `head` does.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        show_error(StoreError("cannot write the output: no space is left", hint="Free some disk space."))
        sys.stdout = None  # what it still holds cannot be written either
        sys.exit(1)


def _open_missing_streams() -> None:
    """Give a process that was started without standard streams, as some services are, empty ones."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123
