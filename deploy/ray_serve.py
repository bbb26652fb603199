"""The reward server in Ray Serve: each replica is the whole server of a config.

    GENPRM_CONFIG=serve.yaml serve run --route-prefix / ray_serve:app

Needs `pip install 'genprm[serve]' 'ray[serve]'` (ray's `llm` extra is not needed, and pins an old vLLM). Ray's own proxy
listens (port 8000), so `serve.host`, `serve.port` and `serve.drain_seconds` play no part, and SIGHUP is not needed: a
changed file of keys is seen. A GPU for a verifier in the replica itself (`local`, `vllm`) is asked for in
`ray_actor_options`. Equal requests share one verification within a replica.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from ray import serve

from genprm import RunConfig, load_config
from genprm.api.serving import opened_app

CONFIG = Path(os.environ.get("GENPRM_CONFIG", "serve.yaml")).absolute()


def make_app() -> FastAPI:
    """Opened in the replica, on its event loop, and closed with it."""

    @asynccontextmanager
    async def lifespan(outer: FastAPI) -> AsyncIterator[None]:
        async with opened_app(load_config(CONFIG, model=RunConfig)) as inner:
            outer.mount("/", inner)
            async with inner.router.lifespan_context(inner):
                yield

    return FastAPI(lifespan=lifespan, openapi_url=None)


@serve.deployment(
    num_replicas=1,
    max_ongoing_requests=512,
    graceful_shutdown_timeout_s=45,
    ray_actor_options={"num_cpus": 1},
)
@serve.ingress(make_app)
class Rewards:
    """The app is all of it."""


app = Rewards.bind()
