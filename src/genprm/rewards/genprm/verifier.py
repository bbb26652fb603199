"""The verifier: many paths of many items at once, one verdict for every step (equations 4 to 7)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from genprm.aio import stream_map
from genprm.config.models import SandboxConfig, VerifyConfig
from genprm.engines.base import Engine
from genprm.errors import ConfigError
from genprm.identity import content_key
from genprm.records import Verification, VerifyItem
from genprm.rewards.base import Items, OnStep, RewardFacts
from genprm.rewards.genprm.line import VerifierLine
from genprm.rewards.genprm.path import PathContext
from genprm.rewards.voting import verification
from genprm.sandbox import make_sandbox
from genprm.sandbox.base import Limits, Sandbox
from genprm.text.prompts import VerifierProfile, load_profile

TIER = "numpy"
"""What verification code may import unless config or profile say otherwise: sympy and numpy, as in the domain `math`."""


class Verifier:
    """Judges solutions step by step, whole (`judge`) or as they grow (`open`). An `IncrementalReward`.

    Every item is verified by `options.votes` independent paths, each with its own history and its own
    interpreter. Paths wait for nothing but the engine, their own code, and the bound on requests in flight.
    Only if votes decide what is asked next do the paths of one item also wait for each other after every
    step: with `stop_at_first_error`, adaptive voting, a shared history or a token budget. Results depend on the
    seed, the items' ids and contents, not on the concurrency.

    Args:
        engine: the verifier model. It stays the caller's.
        sandbox: where the model's code runs; it stays the caller's. If None and code is to be executed, the
            verifier makes one, which starts with the first code and ends with `aclose`.
        options: votes, components, bounds, sampling and the prompt profile's name.
        seed: with an item's id it decides the sampling.
        concurrency: requests in flight, over all items, lines and concurrent calls.
        profile: in place of `options.profile`.
        limits: bounds of one execution; the sandbox's own unless given.
        sandbox_options: of the sandbox that the verifier makes.

    Raises:
        ConfigError: an unknown profile, a concurrency below 1, or `sandbox_options` next to a sandbox.
    """

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox | None = None,
        options: VerifyConfig | None = None,
        *,
        seed: int = 0,
        concurrency: int = 256,
        profile: VerifierProfile | None = None,
        limits: Limits | None = None,
        sandbox_options: SandboxConfig | None = None,
    ) -> None:
        options = options or VerifyConfig()
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
        if sandbox is not None and sandbox_options is not None:
            raise ConfigError(
                "sandbox_options describe the sandbox that the verifier makes, but one was given",
                hint="give a sandbox or its options, not both",
            )
        profile = profile or load_profile(options.profile, VerifierProfile)
        self._own_sandbox: Sandbox | None = None
        if sandbox is None and "execution" in options.components:
            own = make_sandbox(sandbox_options or SandboxConfig(), profile.sandbox_tier or TIER)
            limits = limits or own.limits
            self._own_sandbox = sandbox = own
        self._context = PathContext(
            engine=engine,
            sandbox=sandbox,
            profile=profile,
            options=options,
            slots=asyncio.Semaphore(concurrency),
            seed=seed,
            limits=limits,
        )
        # Enough items to keep the slots busy while some paths execute code, and no more: an open path
        # holds an interpreter.
        self._window = max(1, math.ceil(1.25 * concurrency / options.votes))

    @property
    def options(self) -> VerifyConfig:
        """What the verifier was made with."""
        return self._context.options

    def facts(self) -> RewardFacts:
        """See `StepReward`."""
        by_method = self.options.threshold == VerifyConfig().threshold
        return RewardFacts(
            kind="genprm",
            name=self._context.engine.name,
            threshold=self.options.threshold,
            threshold_source="method (equation 7)" if by_method else "options",
            critiques="cot" in self.options.components,
            incremental=True,
        )

    async def judge(
        self, items: Items, *, on_step: OnStep | None = None
    ) -> AsyncGenerator[Verification, None]:
        """See `StepReward`."""

        async def work(item: VerifyItem) -> Verification:
            return await self._whole(item, on_step)

        async with aclosing(stream_map(work, items, self._window)) as done:
            async for _, row in done:
                yield row

    def open(self, problem: str, *, id: str | None = None) -> VerifierLine:
        """See `IncrementalReward`."""
        return VerifierLine(self._context, content_key(problem) if id is None else id, problem)

    async def aclose(self) -> None:
        """See `StepReward`: end the sandbox, if the verifier made it."""
        if self._own_sandbox is not None:
            await self._own_sandbox.aclose()

    async def __aenter__(self) -> Verifier:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _whole(self, item: VerifyItem, on_step: OnStep | None) -> Verification:
        started = time.perf_counter()
        line = VerifierLine(self._context, item.id, item.problem, on_step=on_step)
        try:
            verdicts = await line.extend(item.steps, last=True)
        finally:
            await line.aclose()
        return verification(
            item,
            verdicts,
            verifier=self._context.engine.name,
            components=self.options.components,
            history=self.options.history,
            usage=line.usage,
            seconds=time.perf_counter() - started,
        )
