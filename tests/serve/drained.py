"""Serves a script that takes its time, and chats whose policy never ends: `python drained.py SECONDS_TO_DRAIN`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from genprm import Request, RunConfig, ScriptedEngine, ScriptedReward
from genprm.domains import load_domain
from genprm.serve.app import create_app
from genprm.serve.chat.search import Searcher
from genprm.serve.run import make_service, serve


async def main() -> None:
    begun = asyncio.Event()

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        if not begun.is_set():
            begun.set()
            print("begun", flush=True)
        await (asyncio.sleep(0.5) if problem == "short" else asyncio.Event().wait())
        return 0.875

    async def write(request: Request) -> str:
        await asyncio.Event().wait()
        return ""

    strategies = {"best": {"kind": "best_of_n", "n": 2}}
    section = {"port": 0, "drain_seconds": int(sys.argv[1]), "strategies": strategies}
    config = RunConfig.model_validate({"serve": section})
    service = make_service(config.serve, ScriptedReward(judge))
    searcher = Searcher(ScriptedEngine(write), service, load_domain(config.domain), config)
    app = create_app(service, config.serve, searcher=searcher)
    await serve(app, config.serve, lambda url: print(url, flush=True))
    print(f"cancelled {service.counts.cancelled}, finished {service.counts.finished}", flush=True)


asyncio.run(main())
