"""A config's reward server as an ASGI app, for `genprm serve` and for servers of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from genprm.config import EngineConfig, RunConfig
from genprm.errors import ConfigError

_NAMED_KINDS = ("local", "replicated", "vllm")

if TYPE_CHECKING:
    from fastapi import FastAPI

    from genprm.runs import Resources


@asynccontextmanager
async def opened_app(config: RunConfig) -> AsyncIterator[FastAPI]:
    """The app of a config whose `roles.verifier` judges; engines and sandbox are closed at the end.

    `app.state.isolation` says in what the verifier's code runs.

    Raises:
        ConfigError: no verifier, or something that keeps it from being served.
        EngineError, SandboxError: what it needs is not there.
        MissingExtraError: FastAPI or another package of the extra `serve` is not installed.
    """
    from genprm.serve.run import check_serving

    engine = config.roles.verifier
    if engine is None:
        raise ConfigError("no verifier is named", hint="Set roles.verifier.")
    check_serving(config.serve, config.verify)
    async with AsyncExitStack() as stack:
        yield await _app(config, engine, stack)


async def _app(config: RunConfig, engine: EngineConfig, stack: AsyncExitStack) -> FastAPI:
    from genprm.runs import Resources
    from genprm.serve.app import create_app
    from genprm.serve.chat.search import Searcher
    from genprm.serve.run import make_service, open_history

    history = open_history(config.serve)
    if history is not None:
        stack.enter_context(history)
    engine = _named(engine)
    resources = await stack.enter_async_context(Resources(config))
    reward = await resources.verifier(engine, config.verify, config.seed)
    busy = None
    if config.serve.busy_voting is not None:
        rule = config.verify.model_copy(update={"voting": config.serve.busy_voting})
        busy = await resources.verifier(engine, rule, config.seed)
    service = make_service(config.serve, reward, busy, history)
    domain = await resources.domain()
    searcher = None
    if config.serve.strategies:
        budget = ("solutions.max_tokens", config.solutions.max_tokens)
        policy = await resources.engine(config.roles.policy, budget)
        searcher = Searcher(policy, service, domain, config)
    app = create_app(service, config.serve, split=domain.split, searcher=searcher, history=history)
    app.state.isolation = await _isolation(config, resources)
    return app


def _named(engine: EngineConfig) -> EngineConfig:
    """The engine under its model's whole name, as answers say who judged; of a folder, they have the last name alone."""
    model = engine.options.get("model")
    if engine.kind not in _NAMED_KINDS or "name" in engine.options or not isinstance(model, str):
        return engine
    if Path(model).expanduser().exists():
        return engine
    return engine.model_copy(update={"options": {**engine.options, "name": model}})


async def _isolation(config: RunConfig, resources: Resources) -> str:
    from genprm.text.prompts import VerifierProfile, load_profile

    if "execution" not in config.verify.components:
        return "No code is executed."
    profile = load_profile(config.verify.profile, VerifierProfile)
    report = (await resources.sandbox(profile.sandbox_tier)).report
    return " ".join((f"Sandbox: level {report.level} of 3.", *report.reasons))
