"""A real server on loopback for each test that asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI

from genprm import Engine, RewardService, RunConfig, ServeConfig, StepReward
from genprm.domains import load_domain
from genprm.serve.app import create_app
from genprm.serve.arrival import bounded_arrival
from genprm.serve.chat.search import Searcher
from genprm.serve.run import bound, make_service, open_history


@dataclass
class Live:
    """A running server.

    Attributes:
        url: where it listens.
        service: what it serves.
        http: a session for raw requests.
    """

    url: str
    service: RewardService
    http: aiohttp.ClientSession

    async def post(self, path: str, body: Any, **options: Any) -> tuple[int, Any, Any]:
        """Status, JSON and headers of an answer."""
        async with self.http.post(self.url + path, json=body, **options) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        """Status and text of an answer."""
        async with self.http.get(self.url + path, **options) as response:
            return response.status, await response.text()

    async def metric(self, line: str) -> float | None:
        """The value of a line of the metrics."""
        _, text = await self.get("/metrics")
        found = [one.rsplit(" ", 1)[1] for one in text.splitlines() if one.rsplit(" ", 1)[0] == line]
        return float(found[0]) if found else None


Serving = Callable[..., AbstractAsyncContextManager[Live]]


@asynccontextmanager
async def running(
    reward: StepReward,
    busy: StepReward | None = None,
    *,
    policy: Engine | None = None,
    sections: dict[str, Any] | None = None,
    unread_seconds: float = 120.0,
    **config: Any,
) -> AsyncIterator[Live]:
    """A server of a reward, and of searches with a policy if there is one.

    Args:
        sections: of the run's config, besides `serve`, which the other arguments are.
        unread_seconds: see `bound`.
    """
    whole = RunConfig.model_validate({**(sections or {}), "serve": config})
    chosen = whole.serve
    history = open_history(chosen)
    service = make_service(chosen, reward, busy, history)
    domain = load_domain(whole.domain)
    searcher = Searcher(policy, service, domain, whole) if policy is not None else None
    try:
        app = create_app(service, chosen, searcher=searcher, history=history)
        async with listening(app, service, chosen, unread_seconds) as live:
            yield live
    finally:
        await domain.aclose()
        if history is not None:
            history.close()


@asynccontextmanager
async def listening(
    app: FastAPI, service: RewardService, config: ServeConfig, unread_seconds: float = 120.0
) -> AsyncIterator[Live]:
    """A server of an app that serves `service`, or holds one that does."""
    with bound(config.model_copy(update={"port": 0}), unread_seconds) as listener:
        listener.listen(512)
        options = uvicorn.Config(
            app,
            http=bounded_arrival(config.body_seconds),
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(options)
        task = asyncio.create_task(server._serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with aiohttp.ClientSession() as http:
            try:
                yield Live(url, service, http)
            finally:
                server.should_exit = True
                await http.close()
                await task


@pytest.fixture
def serving() -> Serving:
    return running
