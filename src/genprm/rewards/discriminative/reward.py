"""A step reward that a token-classification model gives."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import ClassVar, Literal

from genprm.aio import stream_map
from genprm.errors import ConfigError, EngineError
from genprm.records import StepVerdict, Usage, Verification, VerifyItem, Vote
from genprm.rewards.base import Items, OnStep, RewardFacts
from genprm.rewards.discriminative.classifier import StepClassifier, TokenClassifier
from genprm.rewards.faults import fault_vote
from genprm.rewards.lines import PlainLine
from genprm.rewards.voting import tally, verification
from genprm.text.step_tokens import StepLayout

_DIGITS = 6
"""Decimals of a reward: finer than 16-bit arithmetic, coarser than what batching changes in 32 bits."""


class DiscriminativeReward:
    """An `IncrementalReward`: the softmax probability of "right" at each step's last token. It writes no words.

    A solution is read once, whatever its number of steps. A line reads its steps anew with each one. What lies beyond the
    model's context, and what is no number, is `unparsed` with a reason.

    Args:
        model: a folder that `genprm.train_prm` wrote, another token-classification model of two classes, or a hub id that
            an earlier download left on this machine; or a classifier, which stays the caller's.
        threshold: a step whose reward reaches it is judged right.
        concurrency: solutions in work, over one call of `judge`.
        separator, after_problem: both or neither: what follows each step and the problem, for a model whose config does
            not say it.
        right_label: the class that means right.
        device, dtype, batch_tokens, max_length: see `TokenClassifier`.

    Raises:
        ConfigError: a concurrency below 1, or one of `separator` and `after_problem` without the other.
    """

    content_options: ClassVar[frozenset[str]] = frozenset({"model"})
    neutral_options: ClassVar[frozenset[str]] = frozenset({"concurrency", "threshold", "batch_tokens"})
    neutral_when: ClassVar[dict[str, frozenset[str]]] = {}

    def __init__(
        self,
        model: str | StepClassifier,
        *,
        threshold: float = 0.5,
        concurrency: int = 64,
        separator: str | None = None,
        after_problem: str | None = None,
        right_label: Literal[0, 1] = 1,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
        max_length: int | None = None,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
        if (separator is None) != (after_problem is None):
            raise ConfigError(
                "one of separator and after_problem is given without the other",
                hint="Give both, or neither for a model that says it itself.",
            )
        layout = None
        if separator is not None and after_problem is not None:
            layout = StepLayout(separator, after_problem)
        self._own: TokenClassifier | None = None
        if isinstance(model, str):
            self._own = TokenClassifier(
                model,
                device=device,
                dtype=dtype,
                batch_tokens=batch_tokens,
                max_length=max_length,
                layout=layout,
                right_label=right_label,
            )
        self._classifier: StepClassifier = self._own or model  # type: ignore[assignment]
        self._threshold = threshold
        self._concurrency = concurrency

    def facts(self) -> RewardFacts:
        """See `StepReward`."""
        return RewardFacts(
            kind="discriminative",
            name=self._classifier.name,
            threshold=self._threshold,
            threshold_source="the likelier class" if self._threshold == 0.5 else "options",
            incremental=True,
        )

    async def check(self) -> None:
        """Load the model. Raises `ConfigError` or `EngineError` if it cannot be used."""
        await self._classifier.check()

    async def judge(
        self, items: Items, *, on_step: OnStep | None = None
    ) -> AsyncGenerator[Verification, None]:
        """See `StepReward`."""

        async def work(item: VerifyItem) -> Verification:
            started = time.perf_counter()
            verdicts, usage = await self._verdicts(item.problem, item.steps)
            if on_step is not None:
                for verdict in verdicts:
                    on_step(item.id, verdict)
            return verification(
                item,
                verdicts,
                verifier=self._classifier.name,
                usage=usage,
                seconds=time.perf_counter() - started,
            )

        async with aclosing(stream_map(work, items, self._concurrency)) as done:
            async for _, row in done:
                yield row

    def open(self, problem: str, *, id: str | None = None) -> PlainLine:
        """See `IncrementalReward`; nothing is drawn, so the id plays no part."""

        async def judge_last(problem: str, steps: tuple[str, ...]) -> tuple[StepVerdict, Usage]:
            verdicts, usage = await self._verdicts(problem, steps)
            return verdicts[-1], usage

        return PlainLine(judge_last, problem)

    async def aclose(self) -> None:
        """See `StepReward`."""
        if self._own is not None:
            await self._own.aclose()

    async def __aenter__(self) -> DiscriminativeReward:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _verdicts(self, problem: str, steps: Sequence[str]) -> tuple[list[StepVerdict], Usage]:
        try:
            found = await self._classifier.classify(problem, steps)
        except EngineError as error:
            lost = fault_vote(error)
            return [tally(index, [lost], self._threshold) for index in range(len(steps))], Usage()
        verdicts = [self._verdict(index, value, found.reason) for index, value in enumerate(found.values)]
        return verdicts, Usage(prompt_tokens=found.tokens)

    def _verdict(self, step: int, value: float | None, reason: str | None) -> StepVerdict:
        if value is None:
            return StepVerdict(step=step, status="unparsed", reason=reason)
        if not 0 <= value <= 1:  # also what is not a number
            return StepVerdict(
                step=step, status="unparsed", reason=f"the model's output is not a probability: {value}"
            )
        reward = round(value, _DIGITS)
        return tally(step, [Vote(reward=reward, judgement=reward >= self._threshold)], self._threshold)
