"""On whose behalf work is done: for limits and for the history. Work that others join stays its beginner's."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from genprm.records import Usage


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: of the API key; empty without one.
        charge: is given the cost of finished work.
    """

    name: str = ""
    charge: Callable[[Usage], None] = lambda usage: None


CALLER: ContextVar[Caller] = ContextVar("genprm_caller", default=Caller())  # noqa: B039 (it is frozen)
"""Of the request whose task, or a task begun by it, is running."""
