"""What the command line prints, and how."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from genprm.errors import GenPRMError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from genprm.store import StageSummary


def show_error(error: GenPRMError) -> None:
    """Print an error and its hint to standard error."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("hint:  ", "bold cyan"), error.hint), soft_wrap=True)


class Bars:
    """Progress bars with rate and ETA; plain lines where standard error is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=False,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def start(self, stage: str, total: int, done: int) -> None:
        """Begin a bar; `done` items were finished by an earlier run."""
        if self._console.is_terminal:
            self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, rate="")
        else:
            resumed = f", {done} of them from an earlier run" if done else ""
            sys.stderr.write(f"{stage}: {total} items{resumed}\n")

    def advance(self, stage: str, items: int) -> None:
        """Move a bar on."""
        if stage in self._tasks:
            task = self._bars.tasks[self._tasks[stage]]
            self._bars.advance(self._tasks[stage], items)
            rate = f"{task.speed:.1f}/s" if task.speed else ""
            self._bars.update(self._tasks[stage], rate=rate)

    def finish(self, stage: str, summary: StageSummary | None) -> None:
        """Fill a bar, or print the stage's sums."""
        if stage in self._tasks:
            total = self._bars.tasks[self._tasks[stage]].total
            self._bars.update(self._tasks[stage], completed=total)
        elif summary is not None:
            sys.stderr.write(
                f"{stage}: {summary.rows} rows, {summary.dropped} dropped, "
                f"{summary.usage.completion_tokens} tokens, {summary.seconds:.1f} s\n"
            )
        else:
            sys.stderr.write(f"{stage}: done\n")
