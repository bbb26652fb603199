"""What a run reports while it works. The command line draws bars from it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Follows the tasks of a run: its stages, which advance by problems, and trainings, which advance by steps."""

    def begin(self, task: str, total: int | None) -> None:
        """A task of `total` units begins; None if nobody knows how many there are."""
        ...

    def advance(self, task: str, count: int, *, reused: bool = False) -> None:
        """`count` more units are done; `reused` if an earlier run did them."""
        ...

    def end(self, task: str, result: str) -> None:
        """A task is complete; `result` says in a few words what came of it."""
        ...

    def note(self, text: str) -> None:
        """Something that a user should know: a repair, a fault, a second try."""
        ...


class Silent:
    """Progress that nobody watches."""

    def begin(self, task: str, total: int | None) -> None:
        """Do nothing."""

    def advance(self, task: str, count: int, *, reused: bool = False) -> None:
        """Do nothing."""

    def end(self, task: str, result: str) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
