"""The service as a step reward, so that searches are a part of its load and share its verifications."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from genprm.aio import stream_map
from genprm.records import Usage, Verification, VerifyItem
from genprm.rewards.base import Items, OnStep, RewardFacts
from genprm.serve.answers import Answer
from genprm.serve.service import RewardService


class SharedReward:
    """A `StepReward` that asks a service; its `judge` raises `Overloaded` as the service does.

    A verification that another call has begun costs nothing here, as it is counted there; so equal solutions cost once.

    Args:
        service: stays the caller's.
        heard: is given every verdict, beside `on_step`.
    """

    def __init__(self, service: RewardService, heard: OnStep | None = None) -> None:
        self._service, self._heard = service, heard

    def facts(self) -> RewardFacts:
        """See `StepReward`."""
        return self._service.facts()

    async def judge(
        self, items: Items, *, on_step: OnStep | None = None
    ) -> AsyncGenerator[Verification, None]:
        """See `StepReward`."""
        listeners = [listener for listener in (self._heard, on_step) if listener is not None]

        async def work(item: VerifyItem) -> Verification:
            async with aclosing(self._service.stream(item.problem, item.steps)) as events:
                async for event in events:
                    if isinstance(event, Answer):
                        cost = event.verification.usage if event.shared == "no" else Usage()
                        return event.verification.model_copy(update={"item_id": item.id, "usage": cost})
                    for listener in listeners:
                        listener(item.id, event)
            raise AssertionError("a stream ends with its answer")

        async with aclosing(stream_map(work, items, self._service.in_work)) as done:
            async for _, row in done:
                yield row

    async def aclose(self) -> None:
        """See `StepReward`: nothing to release."""
