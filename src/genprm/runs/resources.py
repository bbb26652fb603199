"""What stages run on: engines by role, the sandbox and the domain, made when first asked for."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Protocol, TypeVar

from genprm.domains import Domain, load_domain
from genprm.config import EngineConfig, SandboxConfig
from genprm.engines import CachedEngine, Engine, ScriptedEngine, make_engine
from genprm.errors import ConfigError
from genprm.runs.identity import resolve_model
from genprm.sandbox import IsolatedSandbox, Limits, Sandbox
from genprm.store import RunStore, content_key


class Closable(Protocol):
    """Has an asynchronous end."""

    def aclose(self) -> Awaitable[None]:
        """Release everything."""
        ...


ResourceT = TypeVar("ResourceT", bound=Closable)


class Resources:
    """Makes each resource once and closes them all. An async context manager."""

    def __init__(self, sandbox: SandboxConfig, store: RunStore | None = None) -> None:
        self._sandbox_config = sandbox
        self._store = store
        self._stack = AsyncExitStack()
        self._engines: dict[str, Engine] = {}
        self._sandbox: Sandbox | None = None
        self._domains: dict[str, Domain] = {}

    async def __aenter__(self) -> Resources:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def engine(self, config: EngineConfig) -> Engine:
        """The engine that `config` describes, checked; equal configs share one engine."""
        key = content_key(config)
        if key not in self._engines:
            engine = build_engine(config)
            self._stack.push_async_callback(engine.aclose)
            await engine.check()
            if config.cache and self._store is not None:
                engine = CachedEngine(engine, self._store.artifact("completions", key) / "cache.sqlite")
            self._engines[key] = engine
        return self._engines[key]

    async def release(self, config: EngineConfig) -> None:
        """Close an engine that is no longer needed, to give its memory back."""
        engine = self._engines.pop(content_key(config), None)
        if engine is not None:
            await engine.aclose()

    async def sandbox(self) -> Sandbox:
        """The sandbox."""
        if self._sandbox is None:
            config = self._sandbox_config
            self._sandbox = await self._stack.enter_async_context(
                IsolatedSandbox(
                    tier=config.tier,
                    workers=config.workers,
                    limits=Limits(
                        soft_seconds=config.soft_seconds,
                        hard_seconds=config.hard_seconds,
                        cpu_seconds=config.hard_seconds,
                        memory_mb=config.memory_mb,
                    ),
                    allow_unsandboxed=config.allow_unsandboxed,
                    seed=0,  # code that draws random numbers gives the same output in every run
                )
            )
        return self._sandbox

    async def domain(self, name: str = "math") -> Domain:
        """The domain of that name."""
        if name not in self._domains:
            domain = load_domain(name)
            self._stack.push_async_callback(domain.aclose)
            self._domains[name] = domain
        return self._domains[name]


def build_engine(config: EngineConfig) -> Engine:
    """Make the engine that `config` describes.

    Raises:
        ConfigError: an unknown kind or option.
    """
    if config.kind == "tutor":
        from genprm.worlds.arithmetic.tutor import make_tutor

        try:
            return ScriptedEngine(make_tutor(**config.options), name="scripted tutor (built-in arithmetic)")
        except TypeError as error:
            raise ConfigError(f"the tutor does not take these options: {error}") from None
    return make_engine(config.kind, **_resolve_builtin(config.options))


def _resolve_builtin(options: dict[str, Any]) -> dict[str, Any]:
    """Replace the model names `builtin:base` and `builtin:policy` by the packaged checkpoints."""
    model = options.get("model")
    return {**options, "model": resolve_model(model)} if isinstance(model, str) else options
