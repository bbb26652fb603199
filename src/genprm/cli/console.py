"""What the command line prints, and how. User and library text is never read as markup."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genprm.errors import GenPRMError
from genprm.text.counts import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_LINE_EVERY = 20.0
_KINDS = ("problems", "solutions", "verifications")
"""Ends of the names of stages that several chains have."""
_COMMANDS = ("pip", "genprm", "apt", "accelerate")


def make_console(*, stderr: bool = False) -> Console:
    """A console; piped output is as wide as it needs to be."""
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=160)
    return console


def show_error(error: GenPRMError) -> None:
    """Print an error and its hint to standard error."""
    from rich.text import Text

    console = make_console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("hint:  ", "bold cyan"), sentence(error.hint)), soft_wrap=True)


def tell_launcher(error: GenPRMError) -> None:
    """Say why this process ends to the launcher of several (`torchrun`, `accelerate launch`), if one names a file for it.

    A launcher ends with a traceback of its own, whose last block then holds this error and its hint.
    """
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:
        return
    said = f"error: {error.message}" + (f"\nhint:  {sentence(error.hint)}" if error.hint else "")
    word = {"message": {"message": said, "extraInfo": {"timestamp": int(time.time())}}}
    with suppress(OSError):  # the error itself was shown
        Path(file).write_text(json.dumps(word), encoding="utf-8")


@contextmanager
def one_report() -> Iterator[None]:
    """A context in which an error that another process of the same job reports ends this one in silence."""
    from genprm.training.processes import ReportedElsewhere

    try:
        yield
    except ReportedElsewhere as error:
        tell_launcher(error)
        sys.exit(1)


class Bars:
    """Progress bars with rate and remaining time; now and then a line if standard error is not a terminal."""

    def __init__(self) -> None:
        self._console = make_console(stderr=True)
        self._live: Any = None
        self._tasks: dict[str, TaskID] = {}
        self._counts: dict[str, tuple[int, int | None]] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Bars:
        if self._console.is_terminal:
            self._live = _progress_display(self._console)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, task: str, total: int | None) -> None:
        """See `Progress`."""
        self._counts[task] = (0, total)
        if self._live is not None:
            self._tasks[task] = self._live.add_task(task_title(task), total=total, rate="")

    def advance(self, task: str, count: int, *, reused: bool = False) -> None:
        """See `Progress`."""
        done, total = self._counts[task]
        self._counts[task] = (done + count, total)
        if self._live is not None:
            self._live.advance(self._tasks[task], count)
            speed = self._live.tasks[self._tasks[task]].speed
            self._live.update(self._tasks[task], rate=f"{speed:.1f}/s" if speed else "")
        elif not reused and time.monotonic() - self._last_line >= _LINE_EVERY:
            self._last_line = time.monotonic()
            shown = [
                f"{task_title(name)} {_of(*counts)}" for name, counts in self._counts.items() if counts[0]
            ]
            sys.stderr.write("  " + ", ".join(shown) + "\n")

    def end(self, task: str, result: str) -> None:
        """See `Progress`."""
        done, _ = self._counts.pop(task, (0, None))
        if self._live is not None and task in self._tasks:
            self._live.update(self._tasks.pop(task), total=max(done, 1), completed=max(done, 1))
        else:
            sys.stderr.write(f"{task_title(task)}: {result}\n")

    def note(self, text: str) -> None:
        """See `Progress`."""
        from rich.text import Text

        self._console.print(Text.assemble(("note:  ", "bold yellow"), text), soft_wrap=True)


def task_title(task: str) -> str:
    """A task as readers are shown it: `gsm8k, verifications` for the stage `gsm8k-verifications` of the chain `gsm8k`."""
    chain, _, kind = task.rpartition("-")
    return f"{chain}, {kind}" if chain and kind in _KINDS else task


def sentence(hint: str) -> str:
    """A hint as it is shown: with a capital letter, unless it begins with a command, a key, a path or code."""
    word = hint.partition(" ")[0].rstrip(":")
    return hint[:1].upper() + hint[1:] if word.isalpha() and word not in _COMMANDS else hint


def _of(done: int, total: int | None) -> str:
    return f"{done}/{total}" if total is not None else f"{done} so far"


def _progress_display(console: Console) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=False,
    )


class Steps:
    """Shows the optimizer steps of a training job, and where it was resumed."""

    def __init__(self, bars: Bars, task: str) -> None:
        self._bars = bars
        self._task = task
        self._done = 0

    def __call__(self, step: int, total: int) -> None:
        """So many of the job's steps are done."""
        if not self._done:
            self._bars.begin(self._task, total)
            if step > 1:
                self._bars.note(f"resumed after step {step - 1} of {total}")
        self._bars.advance(self._task, step - self._done)
        self._done = step

    def end(self, steps: int) -> None:
        """The job is done; a finished folder that was only looked at shows nothing."""
        if self._done:
            self._bars.end(self._task, counted(steps, "step"))
