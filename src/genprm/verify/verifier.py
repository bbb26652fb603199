"""The verifier: many paths of many items at once, one verdict for every step (equations 4 to 7)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

from genprm.aio import cancel_all, stream_map
from genprm.config.models import VerifyConfig
from genprm.engines.base import Engine
from genprm.errors import ConfigError
from genprm.prompts import VerifierProfile, load_profile
from genprm.records import StepVerdict, Usage, Verification, VerifyItem, Vote
from genprm.sandbox.base import Limits, Sandbox
from genprm.verify.path import Means, VerificationPath
from genprm.verify.scores import score_solution
from genprm.verify.voting import first_error, skipped, tally

OnStep = Callable[[str, StepVerdict], None]


class Verifier:
    """Judges solutions step by step.

    Every item is verified by `options.votes` independent paths, each with its own history and its own
    interpreter. Paths wait for nothing but the engine, their own code, and the bound on requests in
    flight; with `options.stop_at_first_error` the paths of one item also wait for each other after
    every step, because the decision to go on needs all their votes. Results depend on the seed, the
    items' ids and contents, not on the concurrency.

    Args:
        engine: the verifier model.
        sandbox: where its code runs; may be None for components without execution.
        options: votes, components, bounds, sampling and the prompt profile's name.
        concurrency: requests in flight, over all items and all concurrent calls.
        profile: in place of `options.profile`.
        limits: bounds of one execution.
        on_step: called with the item's id and each verdict as soon as it stands, in step order within
            an item.

    Raises:
        ConfigError: execution without a sandbox, or an unknown profile.
    """

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox | None,
        options: VerifyConfig | None = None,
        *,
        seed: int = 0,
        concurrency: int = 256,
        profile: VerifierProfile | None = None,
        limits: Limits | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        options = options or VerifyConfig()
        if sandbox is None and options.components == "cot+code+execution":
            raise ConfigError(
                "components 'cot+code+execution' need a sandbox",
                hint="pass a sandbox, or choose components without execution",
            )
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
        self._means = Means(
            engine=engine,
            sandbox=sandbox,
            profile=profile or load_profile(options.profile, VerifierProfile),
            options=options,
            slots=asyncio.Semaphore(concurrency),
            seed=seed,
            limits=limits,
        )
        # Enough items to keep the slots busy while some paths execute code, and no more: an open path
        # holds an interpreter.
        self._window = max(1, math.ceil(1.25 * concurrency / options.votes))
        self._on_step = on_step

    @property
    def options(self) -> VerifyConfig:
        """What the verifier was made with."""
        return self._means.options

    async def stream(
        self, items: Iterable[VerifyItem], *, on_step: OnStep | None = None
    ) -> AsyncIterator[Verification]:
        """Verify items and yield results as they finish. `items` is read only as fast as needed."""
        async for _, result in self._run(items, on_step):
            yield result

    async def verify_many(
        self, items: Iterable[VerifyItem], *, on_step: OnStep | None = None
    ) -> list[Verification]:
        """Verify items; the results are in their order."""
        found = [pair async for pair in self._run(items, on_step)]
        return [result for _, result in sorted(found, key=lambda pair: pair[0])]

    def _run(
        self, items: Iterable[VerifyItem], on_step: OnStep | None
    ) -> AsyncIterator[tuple[int, Verification]]:
        callback = on_step or self._on_step

        async def work(item: VerifyItem) -> Verification:
            return await self._verify(item, callback)

        return stream_map(work, items, self._window)

    async def _verify(self, item: VerifyItem, on_step: OnStep | None) -> Verification:
        started = time.perf_counter()
        options = self.options
        paths = [VerificationPath(self._means, item, index) for index in range(options.votes)]
        board = _Board(item, options, on_step)
        try:
            if options.stop_at_first_error:
                await _in_step(paths, board)
            else:
                await _all(*(_alone(path, board) for path in paths))
        finally:
            for path in paths:
                await path.aclose()
        verdicts = tuple(board.verdicts)
        votes = [vote for verdict in verdicts for vote in verdict.votes]
        return Verification(
            item_id=item.id,
            problem=item.problem,
            steps=item.steps,
            verdicts=verdicts,
            first_error=first_error([verdict.judgement for verdict in _judged(verdicts)]),
            score=score_solution([verdict.reward for verdict in verdicts]),
            verifier=self._means.engine.name,
            components=options.components,
            usage=sum((vote.usage for vote in votes), Usage()),
            seconds=time.perf_counter() - started,
        )


def _judged(verdicts: tuple[StepVerdict, ...]) -> list[StepVerdict]:
    return [verdict for verdict in verdicts if verdict.status != "skipped"]


class _Board:
    """Collects the votes of one item; a step's verdict stands once every path has voted."""

    def __init__(self, item: VerifyItem, options: VerifyConfig, on_step: OnStep | None) -> None:
        self.item = item
        self._options = options
        self._on_step = on_step
        self._votes: list[list[Vote]] = [[] for _ in item.steps]
        self.verdicts: list[StepVerdict] = []

    def add(self, step: int, vote: Vote) -> None:
        votes = self._votes[step]
        votes.append(vote)
        if len(votes) == self._options.votes:
            self._stand(tally(step, votes, self._options.threshold))
            votes.clear()

    def done(self) -> bool:
        """Whether the first error is found; by every single path too, where the options ask for that."""
        if all(verdict.judgement is not False for verdict in self.verdicts):
            return False
        if not self._options.every_path_to_its_error:
            return True
        wrong = {
            vote.path
            for verdict in self.verdicts
            for vote in verdict.votes
            if vote.reward is not None and vote.reward < self._options.threshold
        }
        return len(wrong) == self._options.votes

    def skip_rest(self) -> None:
        for step in range(len(self.verdicts), len(self.item.steps)):
            self._stand(skipped(step))

    def _stand(self, verdict: StepVerdict) -> None:
        self.verdicts.append(verdict)
        if self._on_step is not None:
            self._on_step(self.item.id, verdict)


async def _alone(path: VerificationPath, board: _Board) -> None:
    """One path through all steps; its interpreter ends with it."""
    for step in range(len(board.item.steps)):
        board.add(step, await path.judge(step))
    await path.aclose()


async def _in_step(paths: list[VerificationPath], board: _Board) -> None:
    """All paths step by step, until enough of them is known (see `_Board.done`)."""

    async def vote(path: VerificationPath, step: int) -> None:
        board.add(step, await path.judge(step))

    for step in range(len(board.item.steps)):
        await _all(*(vote(path, step) for path in paths))
        if board.done():
            break
    board.skip_rest()


async def _all(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Await all; the first exception cancels the others and is raised as it is."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel_all([task for task in tasks if not task.done()])
