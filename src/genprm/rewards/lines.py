"""A line of steps for rewards that need no state: every step is judged from the problem and the steps so far."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from genprm.records import StepVerdict, Usage

JudgeLast = Callable[[str, tuple[str, ...]], Awaitable[tuple[StepVerdict, Usage]]]
"""From a problem and steps to the verdict on the last step, and what it cost."""


class PlainLine:
    """A `Line` that keeps steps and verdicts, and asks a function about each new step.

    A step whose judging is cancelled leaves the line as it was.
    """

    def __init__(self, judge_last: JudgeLast, problem: str) -> None:
        self._judge_last = judge_last
        self._problem = problem
        self._steps: tuple[str, ...] = ()
        self._verdicts: tuple[StepVerdict, ...] = ()
        self._usage = Usage()
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def steps(self) -> tuple[str, ...]:
        """See `Line`."""
        return self._steps

    @property
    def verdicts(self) -> tuple[StepVerdict, ...]:
        """See `Line`."""
        return self._verdicts

    @property
    def usage(self) -> Usage:
        """See `Line`."""
        return self._usage

    async def judge(self, step: str) -> StepVerdict:
        """See `Line`."""
        async with self._turn:
            self._check_open()
            steps = (*self._steps, step)
            verdict, usage = await self._judge_last(self._problem, steps)
            self._steps, self._verdicts = steps, (*self._verdicts, verdict)
            self._usage += usage
            return verdict

    async def fork(self) -> PlainLine:
        """See `Line`."""
        async with self._turn:
            self._check_open()
            twin = PlainLine(self._judge_last, self._problem)
            twin._steps, twin._verdicts = self._steps, self._verdicts
            return twin

    async def aclose(self) -> None:
        """See `Line`."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this line is closed; fork a line before it is closed to continue from it")
