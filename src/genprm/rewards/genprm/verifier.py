"""The verifier: many paths of many items at once, one verdict for every step (equations 4 to 7)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from genprm.aio import cancel_all, stream_map
from genprm.config.models import VerifyConfig
from genprm.engines.base import Engine
from genprm.errors import ConfigError
from genprm.generate.rollout import Runs
from genprm.records import StepVerdict, Usage, Verification, VerifyItem, Vote
from genprm.rewards.adaptive import votes_to_ask, voting_rule
from genprm.rewards.base import Items, OnStep, RewardFacts
from genprm.rewards.genprm.path import Means, VerificationPath
from genprm.rewards.scores import score_solution
from genprm.rewards.voting import first_error, skipped, tally
from genprm.sandbox.base import Limits, Sandbox
from genprm.text.prompts import VerifierProfile, load_profile

_BUDGET_SPENT = "the token budget was spent"


class Verifier:
    """Judges solutions step by step.

    Every item is verified by `options.votes` independent paths, each with its own history and its own
    interpreter. Paths wait for nothing but the engine, their own code, and the bound on requests in
    flight; with `options.stop_at_first_error` the paths of one item also wait for each other after
    every step, because the decision to go on needs all their votes, and so do those of adaptive voting,
    of a shared history and of a token budget. Results depend on the seed, the
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

    def facts(self) -> RewardFacts:
        """See `StepReward`."""
        return RewardFacts(
            kind="genprm",
            name=self._means.engine.name,
            threshold=self.options.threshold,
            critiques=self.options.components != "direct",
        )

    async def judge(self, items: Items, *, on_step: OnStep | None = None) -> AsyncIterator[Verification]:
        """See `StepReward`. `items` is read only as fast as needed."""
        async for _, result in self._run(items, on_step):
            yield result

    async def aclose(self) -> None:
        """See `StepReward`; the engine and the sandbox are the caller's."""

    def _run(self, items: Items, on_step: OnStep | None) -> AsyncIterator[tuple[int, Verification]]:
        callback = on_step or self._on_step

        async def work(item: VerifyItem) -> Verification:
            return await self._verify(item, callback)

        return stream_map(work, items, self._window)

    async def _verify(self, item: VerifyItem, on_step: OnStep | None) -> Verification:
        started = time.perf_counter()
        options = self.options
        runs = Runs()
        paths = [VerificationPath(self._means, item, index, runs) for index in range(options.votes)]
        board = _Board(item, options, on_step)
        try:
            if _meets_after_steps(options):
                await _in_step(paths, board, options)
            else:
                await _all(*(_alone(path, board) for path in paths))
        finally:
            for path in paths:
                await path.aclose()
        verdicts = tuple(board.verdicts)
        return Verification(
            item_id=item.id,
            problem=item.problem,
            steps=item.steps,
            verdicts=verdicts,
            first_error=first_error([verdict.judgement for verdict in verdicts]),
            score=score_solution([verdict.reward for verdict in verdicts]),
            verifier=self._means.engine.name,
            components=options.components,
            usage=board.usage,
            seconds=time.perf_counter() - started,
        )


def _meets_after_steps(options: VerifyConfig) -> bool:
    """Whether the paths of an item have to wait for each other after every step."""
    return (
        options.stop_at_first_error
        or options.voting != "all"
        or options.history == "shared"
        or options.token_budget is not None
    )


class _Board:
    """Collects the votes of one item, and the verdicts that stand."""

    def __init__(self, item: VerifyItem, options: VerifyConfig, on_step: OnStep | None) -> None:
        self.item = item
        self._options = options
        self._on_step = on_step
        self._votes: list[list[Vote]] = [[] for _ in item.steps]
        self.verdicts: list[StepVerdict] = []
        self.usage = Usage()

    def add(self, step: int, vote: Vote) -> None:
        """A path's vote on a step."""
        self._votes[step].append(vote)
        self.charge(vote)

    def charge(self, vote: Vote) -> None:
        """Count what a vote cost."""
        self.usage += vote.usage

    def rewards(self, step: int) -> list[float]:
        """Rewards of the votes that count so far, in the order of the paths."""
        votes = sorted(self._votes[step], key=lambda vote: vote.path)
        return [vote.reward for vote in votes if vote.reward is not None]

    def complete(self, step: int) -> bool:
        """Whether every path has voted."""
        return len(self._votes[step]) == self._options.votes

    def close(self, step: int) -> None:
        """Make the verdict on a step from the votes at hand."""
        votes, self._votes[step] = self._votes[step], []
        self._stand(tally(step, votes, self._options.threshold) if votes else skipped(step, _BUDGET_SPENT))

    def spent(self) -> bool:
        """Whether the token budget is used up."""
        budget = self._options.token_budget
        return budget is not None and self.usage.completion_tokens >= budget

    def found(self) -> bool:
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
        """Leave the remaining steps without a vote."""
        for step in range(len(self.verdicts), len(self.item.steps)):
            self._stand(skipped(step, "after the first error"))

    def _stand(self, verdict: StepVerdict) -> None:
        self.verdicts.append(verdict)
        if self._on_step is not None:
            self._on_step(self.item.id, verdict)


async def _alone(path: VerificationPath, board: _Board) -> None:
    """One path through all steps; its interpreter ends with it."""
    for step in range(len(board.item.steps)):
        board.add(step, await path.judge(step))
        if board.complete(step):
            board.close(step)
    await path.aclose()


async def _in_step(paths: list[VerificationPath], board: _Board, options: VerifyConfig) -> None:
    """All paths step by step, each step with as many votes as the voting rule asks for."""
    settled = voting_rule(options)
    for step in range(len(board.item.steps)):
        used = 0
        while count := votes_to_ask(board.rewards(step), len(paths) - used, settled):
            if board.spent():
                break
            await _all(*(_vote(path, board, step) for path in paths[used : used + count]))
            used += count
        board.close(step)
        if options.stop_at_first_error and board.found():
            board.skip_rest()
            return
        if options.history == "shared":
            await _share(paths, board.verdicts[-1])


async def _vote(path: VerificationPath, board: _Board, step: int) -> None:
    """A path's vote on a step, after the earlier steps that it was not asked about."""
    for earlier in range(path.reached, step):
        board.charge(await path.judge(earlier))
    board.add(step, await path.judge(step))


async def _share(paths: list[VerificationPath], verdict: StepVerdict) -> None:
    """Let all paths go on from the first one that judged as the decision says."""
    leader = next(
        (
            vote.path
            for vote in verdict.votes
            if vote.judgement is not None and vote.judgement == verdict.judgement
        ),
        None,
    )
    if leader is not None:
        for path in paths:
            if path is not paths[leader]:
                await path.follow(paths[leader])


async def _all(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Await all; the first exception cancels the others and is raised as it is."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel_all([task for task in tasks if not task.done()])
