"""Under load: what the benchmark promises, and engines that are killed and come back."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from conftest import Live, Serving

from genprm import HttpEngine, Verifier, VerifyConfig
from genprm.engines import LlamaServer, resolve_model
from genprm.worlds.arithmetic.demo import PROBLEM

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_the_benchmark_loses_nothing_and_equal_requests_cost_one_verification() -> None:
    command = ("--clients", "20", "--seconds", "4", "--solution-seconds", "0.5", "--in-work", "4")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "serve.py", *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["errors"] == 0 and found["answered"] == found["sent"] > 0
    assert found["verifications_for_8_equal"] == 1


class Relay:
    """Passes connections on to an engine; without one they are closed, as a port is on which nobody listens."""

    def __init__(self) -> None:
        self.target: int | None = None
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.target is not None:
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        except OSError:
            pass
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class Clients:
    """Ask for one solution after the other, and count what they are told."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._numbers = itertools.count()
        self.seen: Counter[str] = Counter()

    async def native(self) -> None:
        while True:
            steps = [f"Step 1: Ned had {next(self._numbers)} pens and bought 27.", "Step 2: So many."]
            status, answer, _ = await self._live.post("/v1/verify", {"problem": PROBLEM, "steps": steps})
            assert status == 200, answer
            if answer["unknown"] is None:
                assert None not in answer["rewards"]
            elif answer["unknown"] != "unparsed":
                assert answer["retry"] and answer["scores"]["min"] is None
            self.seen[answer["unknown"] or "right"] += 1

    async def slime(self) -> None:
        while True:
            response = f"Step 1: Ned had {next(self._numbers)} pens."
            body = {"prompt": PROBLEM, "response": response, "label": None}
            status, answer, headers = await self._live.post("/slime", body)
            if status == 503:
                assert "Retry-After" in headers
                self.seen[answer["error"]["kind"]] += 1
                await asyncio.sleep(0.05)
            else:
                assert status == 200, answer
                assert (answer["reward"] is None) == answer["remove_sample"]
                self.seen[answer["unknown"] or "right"] += 1

    async def until(self, kind: str, more: int) -> None:
        wanted = self.seen[kind] + more
        async with asyncio.timeout(120):
            while self.seen[kind] < wanted:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("engines", [1, 2])
async def test_an_engine_that_is_killed_and_comes_back(
    serving: Serving, tmp_path: Path, engines: int
) -> None:
    pytest.importorskip("xllamacpp")
    checkpoint, file = resolve_model("builtin:verifier"), tmp_path / "verifier.gguf"
    convert = ROOT / "benchmarks" / "tiny_gguf.py"
    subprocess.run([sys.executable, convert, checkpoint, file], check=True, capture_output=True)

    def start() -> LlamaServer:
        return LlamaServer(file, slots=4, context=1024, threads=1).start()

    def port(server: LlamaServer) -> int:
        return int(server.url.rpartition(":")[2])

    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(Relay().running()) for _ in range(engines)]
        servers = [await asyncio.to_thread(start) for _ in relays]
        for relay, server in zip(relays, servers, strict=True):
            stack.callback(server.stop)
            relay.target = port(server)
        engine = await stack.enter_async_context(
            HttpEngine([relay.url for relay in relays], tokenizer=checkpoint, retries=2, retry_seconds=0.05)
        )
        options = VerifyConfig(components="code", profile="compact", max_tokens=120)
        live = await stack.enter_async_context(serving(Verifier(engine, options=options)))
        clients = Clients(live)
        tasks = [asyncio.create_task(ask()) for ask in (clients.native, clients.slime) * 2]
        try:
            await clients.until("right", 4)
            relays[0].target = None
            await asyncio.to_thread(servers[0].stop)
            if engines == 1:
                await clients.until("engine_failed", 4)
                assert (await live.get("/readyz"))[0] == 200
            else:
                await clients.until("right", 12)
            again = await asyncio.to_thread(start)
            stack.callback(again.stop)
            relays[0].target = port(again)
            await clients.until("right", 12)
            assert not [task for task in tasks if task.done()], "a client was told something else"
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in ended if not isinstance(one, asyncio.CancelledError)] == []
        assert set(clients.seen) <= {"right", "unparsed", "engine_failed"}
        if engines == 2:
            assert clients.seen["engine_failed"] == 0, "the other engine took over"
        assert await live.metric("genprm_broken_total") == 0
