"""The server as a process: signals, the command line, and an address that is taken."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import genprm
from genprm import AsyncRewardClient
from genprm.serve.keys import KeyRing
from genprm.worlds.arithmetic.demo import demo_item

DRAINED = str(Path(__file__).with_name("drained.py"))


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(300):
            yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await stream.readline()).decode().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_requests_finish(number: signal.Signals) -> None:
    async with process(DRAINED, "60") as server, AsyncRewardClient(await line(server.stdout)) as client:
        call = asyncio.create_task(client.verify("short", ["a", "b"]))
        assert await line(server.stdout) == "begun"
        server.send_signal(number)
        assert (await call).rewards == (0.875, 0.875)
        await client.aclose()
        assert await line(server.stdout) == "cancelled 0, finished 1"
        assert await server.wait() == 0


@pytest.mark.slow
async def test_a_silent_connection_outlives_the_time_that_clients_keep_one() -> None:
    """aiohttp's clients reuse one after 15 seconds of silence; closing it earlier loses requests that are under way."""
    async with process(DRAINED, "1") as server:
        host, port = (await line(server.stdout)).removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b'"ok"}')).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(16)
        writer.close()


async def test_when_the_drain_ends_all_who_wait_are_answered_in_their_own_words() -> None:
    gym = {
        "responses_create_params": {"input": "gym"},
        "response": {"output": [{"type": "message", "content": "a"}]},
    }
    chat = {"model": "best", "messages": [{"role": "user", "content": "What is 2 + 3?"}]}
    asked: list[tuple[str, Any]] = [
        ("/v1/verify", {"problem": "long", "steps": ["a"]}),
        ("/v1/verify", {"problem": "streamed", "steps": ["a"], "stream": True}),
        ("/slime", {"prompt": "rl", "response": "a"}),
        ("/verify", gym),
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", {**chat, "stream": True}),
    ]
    async with process(DRAINED, "1") as server, aiohttp.ClientSession() as http:
        url = await line(server.stdout)

        async def ask(path: str, body: Any) -> tuple[int, str]:
            async with http.post(url + path, json=body) as response:
                return response.status, await response.text()

        calls = [asyncio.create_task(ask(path, body)) for path, body in asked]
        assert await line(server.stdout) == "begun"
        async with asyncio.timeout(20):
            while True:
                async with http.get(f"{url}/metrics") as metrics:
                    text = await metrics.text()
                if "genprm_running 4.0" in text and "genprm_searching 2.0" in text:
                    break
        server.terminate()
        answers = await asyncio.gather(*calls)
        assert [status for status, _ in answers] == [429, 200, 429, 200, 429, 200]
        assert all("shutting down" in text for _, text in answers)
        assert answers[1][1].startswith("event: error") and '"mask_sample": true' in answers[3][1]
        assert await line(server.stdout) == "cancelled 4, finished 0"
        assert await server.wait() == 0
        assert server.stderr is not None and await server.stderr.read() == b"", "and nothing is in the log"


async def test_the_command_serves_the_packaged_verifier(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("serve: {port: 0}\nverify: {votes: 2}\n")
    command = ("-m", "genprm", "serve", str(config), "--model", "builtin:verifier")
    async with process(*command) as server:
        url = (await line(server.stderr)).removeprefix("Listening on ")
        assert (await line(server.stderr)).startswith("Sandbox: level ")
        item = demo_item()
        async with AsyncRewardClient(url) as client:
            found = await client.verify(item.problem, item.steps)
        assert found.judgements == (True, False, True) and found.first_error == 1
        assert found.verifier == "builtin:verifier"
        assert len(found.steps[0].votes) == 2
        server.terminate()
        assert await server.wait() == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "genprm", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )


def test_mistakes_are_reported_before_a_model_is_loaded(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("serve: {prot: 1}\n")
    model = ("--model", "org/never-loaded")
    for arguments, said in (
        ((), "no verifier is named"),
        ((str(config),), "Did you mean 'port'?"),
        ((*model, "--host", "0.0.0.0"), "anyone who reaches it"),
        ((*model, "--set", "verify.stop_at_first_error=true"), "stop_at_first_error"),
        ((*model, "--set", "serve.limits={trianer: {concurrency: 1}}"), "no key of this name"),
        ((*model, "--set", "serve.busy_voting=exact", "--set", "verify.voting=exact"), "busy_voting"),
    ):
        done = run(*arguments)
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(*model, "--port", str(port))
    assert done.returncode == 1 and f"cannot listen on 127.0.0.1:{port}" in done.stderr, done.stderr


def test_an_address_in_use_is_named() -> None:
    from genprm.serve.app import create_app
    from genprm.serve.run import serve

    async def attempt(port: int) -> None:
        config = genprm.ServeConfig(port=port)
        service = genprm.RewardService(genprm.ScriptedReward(lambda p, s, i: 1.0))
        await serve(create_app(service, config), config, lambda url: None)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(genprm.ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
            asyncio.run(attempt(taken.getsockname()[1]))


async def test_an_answer_waits_for_no_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Nagle's algorithm the end of an answer is held back until the client has acknowledged its beginning: 40 ms."""
    from genprm.serve import arrival
    from genprm.serve.app import create_app
    from genprm.serve.run import serve

    at_once = []

    def watched(seconds: float) -> type[asyncio.Protocol]:
        class Watched(made(seconds)):  # type: ignore[misc]
            def connection_made(self, transport: asyncio.Transport) -> None:
                own = transport.get_extra_info("socket")
                at_once.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                super().connection_made(transport)

        return Watched

    made = arrival.bounded_arrival
    monkeypatch.setattr(arrival, "bounded_arrival", watched)
    config = genprm.ServeConfig(port=0)
    service = genprm.RewardService(genprm.ScriptedReward(lambda p, s, i: 1.0))
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(create_app(service, config), config, listening.set_result))
    async with AsyncRewardClient(await listening) as client:
        await client.verify("What is 2 + 3?", ["2 + 3 = 5."])
    os.kill(os.getpid(), signal.SIGTERM)
    await server
    assert at_once and all(at_once)


def test_a_new_key_is_shown_once_with_its_hash() -> None:
    done = run("--new-key", "trainer")
    key = done.stdout.strip()
    digest = done.stderr.split("trainer: ")[1].split("}")[0]
    assert done.returncode == 0 and key.startswith("gp-") and key not in done.stderr
    assert KeyRing({"trainer": digest}).owner(key) == "trainer"
    assert KeyRing({"trainer": digest}).owner(key + "x") is None


def test_nothing_of_the_server_is_loaded_to_use_the_service_or_to_name_the_clients() -> None:
    code = (
        "import sys, genprm; genprm.RewardService; genprm.RewardClient('http://localhost'); "
        "print(sorted({'fastapi', 'uvicorn', 'starlette', 'prometheus_client', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
