"""The sandbox in uvloop, which Ray Serve and uvicorn choose if it is installed."""

from __future__ import annotations

import asyncio

import uvloop

from genprm import IsolatedSandbox


def test_a_box_works_and_ends_in_uvloop() -> None:
    async def body() -> tuple[str, str]:
        async with IsolatedSandbox("plain", workers=1) as sandbox:
            session = await sandbox.open()
            await session.run("x = 20")
            fork = session.fork()
            one, two = await session.run("print(x + 1)"), await fork.run("print(x + 2)")
            await fork.aclose()
            return one.stdout, two.stdout

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(body()) == ("21\n", "22\n")
