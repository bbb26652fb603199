"""A solution that N verification paths judge as it grows (equations 6 and 7).

This is the one place where votes are asked for: a whole solution is a line that gets all its steps at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from genprm.aio import cancel_all
from genprm.config.models import VerifyConfig
from genprm.generate.executions import Runs
from genprm.records import StepVerdict, Usage
from genprm.rewards.adaptive import votes_to_ask, voting_rule
from genprm.rewards.base import OnStep
from genprm.rewards.genprm.board import Board
from genprm.rewards.genprm.path import PathContext, VerificationPath
from genprm.rewards.voting import leading_vote


class VerifierLine:
    """A line of the verifier (see `Line`): `options.votes` paths that keep history and interpreter.

    Verdicts do not depend on how many steps come at once, so a line that is judged step by step ends with the
    verdicts of `Verifier.judge` on the whole solution under the same id. Calls on one line follow each other.

    Args:
        id: with the seed it decides the sampling. Forks keep it.
        on_step: called with the id and every verdict as soon as it stands; forks do not report.
    """

    def __init__(
        self, context: PathContext, id: str, problem: str, *, on_step: OnStep | None = None
    ) -> None:
        self._context = context
        self._id = id
        self._problem = problem
        self._settled = voting_rule(context.options)
        self._steps: list[str] = []
        self._board = Board(id, context.options, on_step)
        runs = Runs()
        self._paths = [
            VerificationPath(context, id, problem, index, runs) for index in range(context.options.votes)
        ]
        self._tokens_before = 0
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def steps(self) -> tuple[str, ...]:
        """See `Line`."""
        return tuple(self._steps)

    @property
    def verdicts(self) -> tuple[StepVerdict, ...]:
        """See `Line`."""
        return tuple(self._board.verdicts)

    @property
    def usage(self) -> Usage:
        """See `Line`."""
        return self._board.usage

    async def judge(self, step: str) -> StepVerdict:
        """See `Line`.

        Raises:
            RuntimeError: the line is closed, also because an earlier call was cancelled in its middle.
        """
        (verdict,) = await self.extend((step,))
        return verdict

    async def extend(self, steps: Sequence[str], *, last: bool = False) -> tuple[StepVerdict, ...]:
        """Append several steps and judge them.

        Args:
            last: no more steps will come, so a path that has judged all of them may end its interpreter.

        Returns:
            their verdicts.

        Raises:
            RuntimeError: the line is closed.
        """
        async with self._turn:
            self._check_open()
            start = len(self._steps)
            self._steps.extend(steps)
            try:
                if _in_step(self._context.options):
                    await self._together(start)
                else:
                    await _all(*(self._alone(path, last=last) for path in self._paths))
            except BaseException:
                # Some paths are ahead of others, or in the middle of a step: nothing can continue from here.
                del self._steps[len(self._board.verdicts) :]
                await self._release()
                raise
            return tuple(self._board.verdicts[start:])

    async def fork(self) -> VerifierLine:
        """See `Line`. Waits for a judgement of this line that is in flight, and continues after it.

        Raises:
            RuntimeError: the line is closed.
        """
        async with self._turn:
            self._check_open()
            twin = VerifierLine(self._context, self._id, self._problem)
            twin._steps = list(self._steps)
            twin._board = self._board.fork()
            twin._tokens_before = self._tokens
            for path, original in zip(twin._paths, self._paths, strict=True):
                await path.follow(original)
            return twin

    async def aclose(self) -> None:
        """See `Line`. Waits for a judgement of this line that is in flight."""
        self._closed = True
        async with self._turn:
            await self._release()

    @property
    def _tokens(self) -> int:
        """Tokens of this solution's votes, before the fork too, because the token budget is one solution's."""
        return self._tokens_before + sum(path.tokens for path in self._paths)

    async def _release(self) -> None:
        self._closed = True
        for path in self._paths:
            await path.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this line is closed; fork a line before it is closed to continue from it")

    async def _alone(self, path: VerificationPath, *, last: bool) -> None:
        """One path through all new steps; it waits for no other."""
        for step in range(path.reached, len(self._steps)):
            self._board.add(step, await path.judge(self._steps[step]))
            if self._board.complete(step):
                self._board.close(step)
        if last:
            await path.aclose()

    async def _together(self, start: int) -> None:
        """All paths step by step, each step with as many votes as the voting rule asks for."""
        options, board = self._context.options, self._board
        for step in range(start, len(self._steps)):
            if options.stop_at_first_error and board.found:
                board.skip(step)
                continue
            used = 0
            while count := votes_to_ask(board.rewards(step), len(self._paths) - used, self._settled):
                if options.token_budget is not None and self._tokens >= options.token_budget:
                    break
                await _all(*(self._vote(path, step) for path in self._paths[used : used + count]))
                used += count
            verdict = board.close(step)
            if options.history == "shared":
                await self._share(verdict)

    async def _vote(self, path: VerificationPath, step: int) -> None:
        """A path's vote on a step, after the earlier steps that it was not asked about."""
        while path.reached < step:
            self._board.charge(await path.judge(self._steps[path.reached]))
        self._board.add(step, await path.judge(self._steps[step]))

    async def _share(self, verdict: StepVerdict) -> None:
        """Let all paths continue from the first one that judged as the decision says."""
        vote = leading_vote(verdict)
        if vote is not None:
            leader = self._paths[vote.path]
            for path in self._paths:
                if path is not leader:
                    await path.follow(leader)


def _in_step(options: VerifyConfig) -> bool:
    """Whether the paths of a line have to wait for each other after every step."""
    return (
        options.stop_at_first_error
        or options.voting != "all"
        or options.history == "shared"
        or options.token_budget is not None
    )


async def _all(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Await all; the first exception cancels the others and is raised as it is."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel_all([task for task in tasks if not task.done()])
