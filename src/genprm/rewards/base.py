"""The step reward protocol: items in, one verification each out, whatever judges them.

`judge` takes any number of solutions and yields their verifications as they finish. `open` is for search: a line
of steps that grows one step at a time and can be forked. One contract suite
(`tests/rewards/test_rewards_contract.py`) runs over every implementation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from genprm.records import StepVerdict, Usage, Verification, VerifyItem

OnStep = Callable[[str, StepVerdict], None]
"""Called with an item's id and each verdict as soon as it stands, in step order within an item."""

Items = Iterable[VerifyItem] | AsyncIterable[VerifyItem]


@dataclass(frozen=True, slots=True)
class RewardFacts:
    """What a reward is.

    Attributes:
        kind: `genprm`, `scripted`, ...
        name: for reports; names the model.
        threshold: a step whose reward reaches it is judged right, in [0, 1].
        threshold_source: where the threshold comes from, for example `method (equation 7)` or `calibrated on X`.
        critiques: whether votes carry a rationale that a critic can quote.
        incremental: whether `open` gives lines.
    """

    kind: str
    name: str
    threshold: float = 0.5
    threshold_source: str = "method"
    critiques: bool = False
    incremental: bool = False


@runtime_checkable
class Line(Protocol):
    """A solution under construction. Verdicts on its earlier steps stand; each new step is judged after them."""

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps judged so far."""
        ...

    @property
    def verdicts(self) -> tuple[StepVerdict, ...]:
        """Their verdicts."""
        ...

    @property
    def usage(self) -> Usage:
        """What this line's own judging cost; what it took over from the line that it was forked from is not in it."""
        ...

    async def judge(self, step: str) -> StepVerdict:
        """Append a step and judge it. Calls on one line follow each other.

        Raises:
            RuntimeError: the line is closed.
        """
        ...

    async def fork(self) -> Line:
        """A second line that continues from here; neither sees what the other does.

        Raises:
            RuntimeError: the line is closed.
        """
        ...

    async def aclose(self) -> None:
        """Release what the line holds; its steps and verdicts stay readable. Idempotent."""
        ...


@runtime_checkable
class StepReward(Protocol):
    """Judges solutions step by step."""

    def facts(self) -> RewardFacts:
        """What this reward is."""
        ...

    def judge(self, items: Items, *, on_step: OnStep | None = None) -> AsyncGenerator[Verification, None]:
        """Verifications of the items as they finish, exactly one verdict for every step of each.

        `items` is read only as fast as needed. Failures are statuses with reasons in the verdicts; only a
        programming error raises. Closing the generator early cancels what is in flight and waits until it has
        ended; after a `break` without `aclose()` the event loop does that on its own.
        """
        ...

    async def aclose(self) -> None:
        """Release what the reward itself made. Idempotent."""
        ...


@runtime_checkable
class IncrementalReward(StepReward, Protocol):
    """A step reward that search can use while a solution is being written."""

    def open(self, problem: str, *, id: str | None = None) -> Line:
        """A line without steps yet.

        Args:
            problem: the problem's text.
            id: names the line; with the seed it decides the sampling. Made from the problem unless given.
        """
        ...


async def judge_all(
    reward: StepReward, items: Iterable[VerifyItem], *, on_step: OnStep | None = None
) -> list[Verification]:
    """Verifications in the order of the items, whose ids must differ.

    Raises:
        ValueError: two items have one id.
    """
    wanted = list(items)
    if len({item.id for item in wanted}) < len(wanted):
        raise ValueError("items must have ids that differ")
    found = {row.item_id: row async for row in reward.judge(wanted, on_step=on_step)}
    return [found[item.id] for item in wanted]
