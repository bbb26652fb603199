"""Serves a script that takes its time, in a process of its own: `python drained.py SECONDS_TO_DRAIN`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from genprm import ScriptedReward, ServeConfig
from genprm.serve.app import create_app
from genprm.serve.run import make_service, serve


async def main() -> None:
    begun = asyncio.Event()

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        if not begun.is_set():
            begun.set()
            print("begun", flush=True)
        await (asyncio.sleep(0.5) if problem == "short" else asyncio.Event().wait())
        return 0.875

    config = ServeConfig(port=0, drain_seconds=int(sys.argv[1]))
    service = make_service(config, ScriptedReward(judge))
    await serve(create_app(service, config), config, lambda url: print(url, flush=True))
    print(f"cancelled {service.counts.cancelled}, finished {service.counts.finished}", flush=True)


asyncio.run(main())
