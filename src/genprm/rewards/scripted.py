"""A reward whose verdicts come from a Python function: for tests and demonstrations of whatever uses rewards."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from genprm.aio import stream_map
from genprm.errors import EngineError, SandboxError
from genprm.records import StepVerdict, Usage, Verification, VerifyItem, Vote
from genprm.rewards.base import Items, OnStep, RewardFacts
from genprm.rewards.faults import fault_vote
from genprm.rewards.lines import PlainLine
from genprm.rewards.voting import tally, verification

Answer = float | bool | StepVerdict | None
JudgeStep = Callable[[str, Sequence[str], int], Answer | Awaitable[Answer]]


class ScriptedReward:
    """An `IncrementalReward` that asks `judge_step(problem, steps, index)` about every step.

    Args:
        judge_step: is given the problem's text, the steps up to and including number `index`, and the index
            from 0. It returns a reward in [0, 1], a bool (1 or 0), None if it does not know, or a whole
            verdict; it may be a coroutine function. An `EngineError` or `SandboxError` that it raises makes the
            step `failed`; any other exception is a bug and raises.
        name: for reports; `scripted:` is put in front if it is missing.
        threshold: a step whose reward reaches it is judged right.
        concurrency: items in work, over one call of `judge`.
    """

    def __init__(
        self,
        judge_step: JudgeStep,
        name: str = "scripted:function",
        *,
        threshold: float = 0.5,
        concurrency: int = 64,
    ) -> None:
        self._judge_step = judge_step
        self._name = name if name.startswith("scripted:") else f"scripted:{name}"
        self._threshold = threshold
        self._concurrency = concurrency

    def facts(self) -> RewardFacts:
        """See `StepReward`."""
        return RewardFacts(
            kind="scripted",
            name=self._name,
            threshold=self._threshold,
            threshold_source="given",
            incremental=True,
        )

    async def judge(
        self, items: Items, *, on_step: OnStep | None = None
    ) -> AsyncGenerator[Verification, None]:
        """See `StepReward`."""

        async def work(item: VerifyItem) -> Verification:
            started = time.perf_counter()
            line = self.open(item.problem)
            for step in item.steps:
                verdict = await line.judge(step)
                if on_step is not None:
                    on_step(item.id, verdict)
            seconds = time.perf_counter() - started
            return verification(item, line.verdicts, verifier=self._name, seconds=seconds)

        async with aclosing(stream_map(work, items, self._concurrency)) as done:
            async for _, row in done:
                yield row

    def open(self, problem: str, *, id: str | None = None) -> PlainLine:
        """See `IncrementalReward`; a script draws nothing, so the id plays no part."""

        async def judge_last(problem: str, steps: tuple[str, ...]) -> tuple[StepVerdict, Usage]:
            return await self.verdict(problem, steps, len(steps) - 1), Usage()

        return PlainLine(judge_last, problem)

    async def verdict(self, problem: str, steps: Sequence[str], index: int) -> StepVerdict:
        """The script's verdict on one step."""
        try:
            answer = self._judge_step(problem, steps, index)
            if inspect.isawaitable(answer):
                answer = await answer
        except (EngineError, SandboxError) as error:
            return tally(index, [fault_vote(error)], self._threshold)
        if isinstance(answer, StepVerdict):
            return answer.model_copy(update={"step": index})
        if answer is None:
            return StepVerdict(step=index, status="unparsed", reason="scripted: unknown")
        reward = float(answer)
        if not 0 <= reward <= 1:  # also what is not a number
            return StepVerdict(step=index, status="unparsed", reason=f"scripted: {reward} is not in [0, 1]")
        return tally(index, [Vote(reward=reward, judgement=reward >= self._threshold)], self._threshold)

    async def aclose(self) -> None:
        """See `StepReward`: nothing to release."""
