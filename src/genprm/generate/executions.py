"""Executions that several paths have in common (docs/decisions/0006-shared-executions.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from genprm.sandbox.base import ExecResult, Session, Status


class Standing(Protocol):
    """What is known here of a path."""

    @property
    def standing(self) -> tuple[Session | None, list[str]]:
        """Its session, None while it executes something, and what that has executed."""
        ...


@dataclass(frozen=True, slots=True)
class Executed:
    """A snippet that ended by itself, and how: as it must end again when it is replayed."""

    code: str
    status: Status
    error_type: str | None


class Runs:
    """Executions that the paths of one item have in common.

    Paths that check the same step often write the same code after the same code. Each has an interpreter
    of its own, and as all start alike, equal histories give equal outputs: one of them executes, the
    others take its result, and their interpreters catch up if they ever need to. Only code that ended by
    itself counts; whether a limit is met may depend on the machine's load.
    """

    def __init__(self) -> None:
        self._ends: dict[tuple[str, ...], asyncio.Future[ExecResult | None]] = {}
        self._paths: list[Standing] = []

    def enter(self, path: Standing) -> None:
        """Make a path known to the others."""
        self._paths.append(path)

    def furthest(self, history: Sequence[str]) -> tuple[Session | None, int]:
        """The idle session that has executed most of `history` and nothing else, and how much that is."""
        found: Session | None = None
        most = 0
        for path in self._paths:
            session, executed = path.standing
            if session is not None and most < len(executed) and list(history[: len(executed)]) == executed:
                found, most = session, len(executed)
        return found, most

    async def result(
        self, codes: tuple[str, ...], run: Callable[[], Awaitable[ExecResult]]
    ) -> tuple[ExecResult, bool]:
        """What the last of `codes` gave after the others, and whether `run` was called for it."""
        known = self._ends.get(codes)
        if known is not None:
            found = await asyncio.shield(known)
            if found is not None:
                return found, False
            return await run(), True
        end: asyncio.Future[ExecResult | None] = asyncio.get_running_loop().create_future()
        self._ends[codes] = end
        try:
            result = await run()
        except BaseException:
            end.set_result(None)
            raise
        end.set_result(result if ended_by_itself(result) else None)
        return result, True


def ended_by_itself(result: ExecResult) -> bool:
    """Whether code ended without meeting a limit: then it would end so again."""
    return result.status in (Status.OK, Status.ERROR)
