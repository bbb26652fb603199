"""Printing verifications: a row for each step as soon as its verdict stands, then what they add up to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from genprm.cli.console import make_console

if TYPE_CHECKING:
    from genprm.records import StepVerdict, Verification

_STYLES = {"right": "green", "wrong": "red"}


class Printer:
    """Prints verifications one after the other.

    Args:
        as_json: one JSON record each, and nothing else.
        show_work: also what the verifier wrote about each step.
        names: what to head solutions by in place of their item ids: rows without an id have their places here before
            they are printed, and no longer. No headings at all unless given.
    """

    def __init__(self, *, as_json: bool, show_work: bool, names: dict[str, str] | None = None) -> None:
        self._as_json = as_json
        self._show_work = show_work
        self._names = names
        self._console = make_console()
        self._printed = 0

    def step(self, verdict: StepVerdict) -> None:
        """Print the row of a step that was just judged."""
        from rich.text import Text

        from genprm.view.verdicts import TITLE, verdict_row, verdict_word

        if self._printed == 0:
            self._console.print(Text(TITLE, style="bold"), soft_wrap=True)
        self._printed += 1
        self._console.print(
            Text(verdict_row(verdict), style=_STYLES.get(verdict_word(verdict), "yellow")), soft_wrap=True
        )
        if self._show_work:
            self._work(verdict)

    def result(self, row: Verification) -> None:
        """Print a finished verification; rows of steps that were not printed yet come first."""
        name = (self._names or {}).pop(row.item_id, row.item_id)
        if self._as_json:
            sys.stdout.write(row.model_dump_json() + "\n")
            sys.stdout.flush()
            return
        from rich.text import Text

        from genprm.view.verdicts import summary_line

        if self._names is not None:
            self._console.print(Text(f"solution {name}", style="bold"), soft_wrap=True)
        for verdict in row.verdicts[self._printed :]:
            self.step(verdict)
        self._printed = 0
        self._console.print(Text(summary_line(row)), soft_wrap=True)

    def _work(self, verdict: StepVerdict) -> None:
        from rich.padding import Padding
        from rich.text import Text

        from genprm.view.verdicts import deciding_vote

        vote = deciding_vote(verdict)
        if vote is not None and vote.rationale is not None:
            self._console.print(Padding(Text(vote.rationale.text, style="dim"), (0, 0, 1, 6)))
