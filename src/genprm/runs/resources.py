"""What stages run on: engines, the sandbox, the domain, verifiers; each made when first asked for, and made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

from genprm.aio import cancel_all
from genprm.config import EngineConfig, RunConfig, VerifyConfig
from genprm.domains import Domain, load_domain
from genprm.engines import (
    CachedEngine,
    Engine,
    check_budget,
    check_declared_budget,
    engine_identity,
    make_engine,
)
from genprm.identity import content_key
from genprm.rewards import IncrementalReward, Verifier
from genprm.rewards.table import is_reward, make_reward
from genprm.runs.gate import GatedEngine
from genprm.sandbox import Sandbox, make_sandbox
from genprm.text.prompts import VerifierProfile, load_profile

ResourceT = TypeVar("ResourceT")


class Resources:
    """Makes each resource once and closes them all. An async context manager, on one event loop.

    Args:
        config: of the run; its roles, sandbox, domain and concurrency count.
        cache: folder for completion caches, one for each engine; none are kept without it.
    """

    def __init__(self, config: RunConfig, cache: Path | None = None) -> None:
        self.config = config
        self._cache = cache
        self._stack = AsyncExitStack()
        self._made: dict[str, asyncio.Task[object]] = {}

    async def __aenter__(self) -> Resources:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever asked may have been cancelled while something was still being made.
        await cancel_all([task for task in self._made.values() if not task.done()])
        await self._stack.aclose()

    async def engine(self, config: EngineConfig, budget: tuple[str, int] | None = None) -> Engine:
        """The engine that `config` describes, checked; equal configs share one, and its bound on requests in flight.

        Args:
            budget: the config key of the tokens to be asked for, and how many.

        Raises:
            ConfigError: the budget leaves no token for a prompt.
        """
        if budget is not None:
            check_declared_budget(config, budget[1], budget[0])  # before a model is loaded
        engine = await self._once(f"engine {content_key(config)}", lambda: self._engine(config))
        if budget is not None:
            check_budget(engine, budget[1], budget[0])
        return engine

    async def sandbox(self, tier: str | None = None) -> Sandbox:
        """The sandbox of a tier, the domain's unless given; the config's goes before both."""
        chosen = self.config.sandbox.tier or tier or (await self.domain()).sandbox_tier
        return await self._once(f"sandbox {chosen}", lambda: self._sandbox(chosen))

    async def domain(self) -> Domain:
        """The domain."""
        return await self._once("domain", self._domain)

    async def verifier(self, engine: EngineConfig, options: VerifyConfig, seed: int) -> IncrementalReward:
        """A verifier on an engine, or the reward that is named in its place; equal ones share one bound on what is in
        work over all shards.
        """
        key = f"verifier {content_key(engine, options, seed)}"
        return await self._once(key, lambda: self._verifier(engine, options, seed))

    async def release(self, config: EngineConfig) -> None:
        """Close an engine that is no longer needed, to give its memory back."""
        task = self._made.pop(f"engine {content_key(config)}", None)
        if task is not None:
            engine = await task
            assert isinstance(engine, GatedEngine)
            await engine.aclose()

    async def _once(self, key: str, make: Callable[[], Awaitable[ResourceT]]) -> ResourceT:
        """Make a resource, or wait for the one being made; a failed attempt is forgotten."""
        if key not in self._made:

            async def body() -> object:
                return await make()

            self._made[key] = asyncio.ensure_future(body())
        task = self._made[key]
        try:
            return cast("ResourceT", await asyncio.shield(task))
        except BaseException:
            if task.done() and self._made.get(key) is task:
                del self._made[key]
            raise

    async def _engine(self, config: EngineConfig) -> Engine:
        engine = await asyncio.to_thread(make_engine, config.kind, **config.options)
        try:
            await engine.check()
            if config.cache and self._cache is not None:
                identity = content_key(engine_identity(config))
                engine = CachedEngine(engine, self._cache / identity / "cache.sqlite", identity=identity)
        except BaseException:
            await engine.aclose()
            raise
        gated = GatedEngine(engine, self.config.concurrency)
        self._stack.push_async_callback(gated.aclose)
        return gated

    async def _sandbox(self, tier: str) -> Sandbox:
        sandbox = make_sandbox(self.config.sandbox, tier)
        return await self._stack.enter_async_context(sandbox)

    async def _domain(self) -> Domain:
        domain = load_domain(self.config.domain)
        self._stack.push_async_callback(domain.aclose)
        return domain

    async def _verifier(self, engine: EngineConfig, options: VerifyConfig, seed: int) -> IncrementalReward:
        if is_reward(engine):
            reward = make_reward(engine, options, self.config.concurrency)
            self._stack.push_async_callback(reward.aclose)
            await reward.check()
            return reward
        profile = load_profile(options.profile, VerifierProfile)
        executes = "execution" in options.components
        sandbox = await self.sandbox(profile.sandbox_tier) if executes else None
        budget = ("verify.max_tokens", options.max_tokens)
        return Verifier(
            await self.engine(engine, budget),
            sandbox,
            options,
            seed=seed,
            concurrency=self.config.concurrency,
            profile=profile,
        )
