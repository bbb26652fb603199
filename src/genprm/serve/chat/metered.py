"""The policy of one search, and what it has cost so far: also of a search that comes to no end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genprm.aio import bounded_map
from genprm.engines import Completion, Engine, Request
from genprm.records import Usage
from genprm.serve.callers import CALLER


class MeteredEngine:
    """An engine whose completions are charged to the caller, each as soon as it is there.

    What a request costs that is cut off before its completion is not known, and is not charged.

    Args:
        engine: stays the caller's.

    Attributes:
        spent: by all completions so far.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spent = Usage()

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self._engine.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """See `Engine`. Requests are handed on one by one, so that none waits for another to be counted."""
        return await bounded_map(self._one, requests, max(1, len(requests)))

    async def check(self) -> None:
        """See `Engine`."""
        await self._engine.check()

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        return self._engine.describe()

    async def aclose(self) -> None:
        """See `Engine`: nothing to release."""

    async def _one(self, request: Request) -> Completion:
        (done,) = await self._engine.generate([request])
        self.spent += done.usage
        CALLER.get().charge(done.usage)
        return done
