"""On whose behalf work is done: for limits and for the history. Work that others join stays its beginner's."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from genprm.records import Usage


@dataclass(eq=False, slots=True)
class Caller:
    """One request of a key. Two are never equal.

    Attributes:
        name: of the API key; empty without one.
        charge: is given the cost of work that was done.
        free: how many more requests the key may have at the same time now; None if that is not bounded.
        inside: whether the request is still being answered.
    """

    name: str = ""
    charge: Callable[[Usage], None] = lambda usage: None
    free: Callable[[], int | None] = lambda: None
    inside: bool = True


CALLER: ContextVar[Caller] = ContextVar("genprm_caller", default=Caller())  # noqa: B039 (nobody changes it)
"""Of the request whose task, or a task begun by it, is running."""
