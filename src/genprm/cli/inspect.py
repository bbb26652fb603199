"""`genprm show` and `genprm dropped`: one problem's way through a run, and what the run did not pass on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

RunDirectory = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("show")(show)
    app.command("dropped")(dropped)


def show(
    run_dir: RunDirectory,
    problem: Annotated[str, typer.Argument(help="The problem's id.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print everything that a run made of one problem: solutions, scores, labels, rationales, verdicts, chats."""
    from genprm.store import RunReader
    from genprm.view.problem import problem_json, problem_text

    found = RunReader(run_dir).about(problem)
    if as_json:
        sys.stdout.write(json.dumps(problem_json(found), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(problem_text(found))


def dropped(
    run_dir: RunDirectory,
    stage: Annotated[
        str | None, typer.Argument(help="The stage to look at.", show_default="all stages")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only this reason.", show_default="all reasons")
    ] = None,
    examples: Annotated[int, typer.Option(help="Texts to print for each reason, at most.", min=0)] = 3,
    as_json: AsJson = False,
) -> None:
    """Count what a run did not pass on, by stage and reason, and print a few of the texts."""
    from genprm.store import RunReader
    from genprm.view.dropped import dropped_reasons, dropped_text

    found = dropped_reasons(RunReader(run_dir), stage, reason, examples)
    if as_json:
        rows = [one.model_dump(mode="json") for one in found]
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(dropped_text(found))
