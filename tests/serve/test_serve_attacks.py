"""What a hostile or broken client may try: heads, paths, keys, bodies, words for the log, and leaving."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from conftest import Live, Serving, listening
from fastapi import FastAPI

from genprm import RewardService, ScriptedReward, ServeConfig
from genprm.serve.app import create_app
from genprm.serve.dialects import DIALECTS
from genprm.serve.exchange import EventStream, Relay

KEY = "gp-secret"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
BODY = b'{"problem": "p", "steps": ["a"]}'
HEAD = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\n"
POSTS = [dialect.path for dialect in DIALECTS] + [
    "/v1/verify",
    "/v1/verify/batch",
    "/v1/chat/completions",
    "/seed_session",
    "/close_session",
    "/aggregate_metrics",
]


def scripted() -> ScriptedReward:
    return ScriptedReward(lambda problem, steps, index: 0.875)


@asynccontextmanager
async def connection(live: Live) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = live.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(30):
            yield reader, writer
    finally:
        writer.close()


async def raw(live: Live, data: bytes) -> bytes:
    """Everything that a server answers to some bytes, until it closes or has answered one request."""
    async with connection(live) as (reader, writer):
        writer.write(data)
        found = b""
        while part := await reader.read(65536):
            found += part
            if b"\r\n\r\n" in found:
                break
        return found


def with_body(head: bytes, body: bytes = BODY) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer\r\n",
        b"Authorization: Bearer \r\n",
        b"Authorization: Basic " + KEY.encode() + b"\r\n",
        b"Authorization: Bearer " + HASH.encode() + b"\r\n",
        b"Authorization: Bearer " + KEY.upper().encode() + b"\r\n",
        b"Authorization: Bearer " + KEY.encode() + b" x\r\n",
        b"Authorization: Bearer " + b"\xff" * 2000 + b"\r\n",
        b"X-API-Key: trainer\r\n",
        b"X-API-Key:\r\n",
        b"Cookie: key=" + KEY.encode() + b"\r\n",
        b"X-Forwarded-For: 127.0.0.1\r\n",
    ],
)
async def test_nothing_but_the_key_is_a_key(serving: Serving, header: bytes) -> None:
    async with serving(scripted(), api_keys={"trainer": HASH}) as live:
        assert (await raw(live, with_body(HEAD + header))).startswith(b"HTTP/1.1 401")
        right = b"X-API-Key: " + KEY.encode() + b"\r\n"
        assert (await raw(live, with_body(HEAD + right))).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "path",
    [
        b"//v1/verify",
        b"/v1/verify/",
        b"/v1//verify",
        b"/v1/../v1/verify",
        b"/healthz/../v1/verify",
        b"/healthz/%2e%2e/v1/verify",
        b"/%76%31/verify",
        b"/healthz%2f..%2fv1%2fverify",
        b"/healthz?/v1/verify",
        b"http://x/v1/verify",
        b"/v1/verify%00",
        b"/v1/verify;healthz",
    ],
)
async def test_no_way_of_writing_a_path_goes_around_the_key(serving: Serving, path: bytes) -> None:
    async with serving(scripted(), api_keys={"trainer": HASH}) as live:
        head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n"
        status = (await raw(live, with_body(head)))[:12]
        assert status in (b"HTTP/1.1 401", b"HTTP/1.1 400", b"HTTP/1.1 405"), status
        assert live.service.counts.calls == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n" * 10,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/verify HTTP/1.1\r\n\r\n",
        HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\n{}",
        HEAD
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        HEAD + b"Bad Header: x\r\n\r\n",
        HEAD + b"A: b\r\n c: folded\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_broken_heads_are_refused_and_others_are_served(serving: Serving, data: bytes) -> None:
    async with serving(scripted(), body_seconds=0.5) as live:
        found = await raw(live, data)
        assert not found.startswith(b"HTTP/1.1 200") and not found.startswith(b"HTTP/1.1 5")
        assert (await live.post("/v1/verify", {"problem": "p", "steps": ["a"]}))[0] == 200
        assert live.service.counts.calls == 1


async def test_heads_and_bodies_that_trickle_in_are_ended(serving: Serving) -> None:
    """Slow senders of heads are cut off, of bodies answered with 408, whatever they do in between."""
    async with serving(scripted(), body_seconds=0.6) as live:

        async def trickle(first: bytes) -> bytes:
            async with connection(live) as (reader, writer):
                writer.write(first)
                answer = asyncio.create_task(reader.read(65536))
                while not answer.done():
                    writer.write(b"a")
                    await asyncio.sleep(0.1)
                return answer.result()

        slow_body = HEAD + b"Content-Length: 10000\r\n\r\n{"
        second = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        attempts = [trickle(b""), trickle(HEAD + b"X-Slow: "), trickle(slow_body)]
        nothing, head, body = await asyncio.gather(*attempts)
        assert nothing == b"" and head == b"" and body.startswith(b"HTTP/1.1 408")
        async with connection(live) as (reader, writer):
            writer.write(second)
            assert (await reader.readuntil(b'"ok"}')).startswith(b"HTTP/1.1 200")
            writer.write(HEAD + b"X-Slow: ")  # the second head of a kept connection
            assert await reader.read(65536) == b""
        silent = [await asyncio.open_connection(*live.url[7:].split(":")) for _ in range(50)]
        assert (await live.get("/healthz"))[0] == 200
        for reader, writer in silent:
            assert await reader.read(1) == b""
            writer.close()


async def test_a_request_that_takes_long_to_answer_is_not_taken_for_a_slow_one(serving: Serving) -> None:
    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        await asyncio.sleep(0.8)
        return 0.875

    async with serving(ScriptedReward(judge), body_seconds=0.3) as live:
        for problem in ("p", "q"):
            assert (await live.post("/v1/verify", {"problem": problem, "steps": ["a"]}))[0] == 200


async def test_what_a_sender_writes_never_reaches_the_log(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither texts, nor keys, nor paths: no line of the log can be forged, and none is secret."""
    evil = "evil\nERROR root: forged \x1b[31m"

    def judge(problem: str, steps: Sequence[str], index: int) -> float:
        if problem == "bug":
            raise KeyError("a bug")
        return 0.875

    with caplog.at_level(logging.DEBUG, logger="genprm"):
        async with serving(ScriptedReward(judge), api_keys={"a": HASH}) as live:
            for body in (
                {"problem": evil, "steps": [evil]},
                {"problem": "bug", "steps": [evil]},
                {evil: 1},
            ):
                await live.post("/v1/verify", body, headers={"X-API-Key": KEY})
            await live.post("/v1/verify", {}, headers={"X-API-Key": "gp-evil-key"})
            await live.get("/evil%0aforged", headers={"X-API-Key": KEY, "User-Agent": "evil"})
            metrics = (await live.get("/metrics", headers={"X-API-Key": KEY}))[1]
    assert "a bug" in caplog.text, "the bug itself is there"
    for text in (caplog.text, metrics):
        assert "evil" not in text and "forged" not in text and KEY not in text


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b'{"problem": NaN}',
        b'{"problem": 1e999, "steps": [1]}',
        b'{"query": [1], "prompts": {}, "prompt": 1, "response": [], "messages": [1], "input": {}, "model": 1}',
        b'{"verify_responses": [{"reward": 1e308}, {"reward": NaN}, {"_ng_task_index": "x"}, {"reward": 1e400}]}',
        b'{"responses_create_params": {"input": [NaN]}, "response": {"output": [1e999, "\\ud800"]}, "x": NaN}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}], "temperature": NaN}',
        b'{"responses_create_params": {}, "response": {"output": [{"type": "message", "content": "\\ud800"}]}}',
        b'{"prompt": "\\ud800", "response": "\\udfff a"}',
        b'{"resources_session_id": "\\ud800"}',
    ],
)
async def test_no_body_is_answered_with_a_bug(serving: Serving, path: str, body: bytes) -> None:
    async with (
        serving(scripted()) as live,
        live.http.post(live.url + path, data=body) as response,
    ):
        assert response.status < 500, (await response.text())[:500]
        json.loads(await response.text(), parse_constant=pytest.fail)  # no NaN, no Infinity


@pytest.mark.parametrize(
    "code",
    [
        "plain('a' + ' ' * 1_000_000 + 'b')",
        "plain('a' + '</s>' * 250_000 + 'b')",
        "plain('</s>' * 250_000)",
        "plain('a' + ' </s> ' * 150_000)",
        "plain('<|' * 500_000)",
        "_totals([{f'k{n}': 1.0} for n in range(100_000)])",
    ],
)
def test_nothing_that_is_sent_takes_long_to_read(code: str) -> None:
    """A time that grew with the square of a body's length would be minutes or hours here, for all callers."""
    names = "from genprm.serve.dialects.rendered import plain; from genprm.serve.gym import _totals; "
    assert subprocess.run([sys.executable, "-c", names + code], timeout=60, check=False).returncode == 0


async def test_a_stream_that_never_begins_leaves_nothing_behind() -> None:
    """The client reads nothing, so that not even the head can be sent, and leaves."""
    ended, stuck = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[int, None]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            ended.set()

    async def receive() -> Any:
        await stuck.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async def lines() -> AsyncIterator[str]:
        yield "never"

    relay = Relay(source())
    await relay.begun()
    async with asyncio.timeout(20):
        await EventStream(relay, lines())({"type": "http"}, receive, send)
        await ended.wait()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_reads_nothing_is_cut_off_and_a_slow_one_is_not(
    serving: Serving, stream: bool
) -> None:
    """Otherwise its answer, here of 4 MB, would stay in the server's memory for as long as it likes."""
    body = json.dumps({"problem": "p", "steps": ["x" * 14_000] * 256, "stream": stream}).encode()

    async with serving(scripted(), unread_seconds=0.5) as live, AsyncExitStack() as stack:

        async def ask() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            small = socket.socket()
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            small.setblocking(False)
            host, port = live.url.removeprefix("http://").split(":")
            await asyncio.get_running_loop().sock_connect(small, (host, int(port)))
            reader, writer = await asyncio.open_connection(sock=small, limit=1024)
            stack.callback(writer.close)
            writer.write(with_body(HEAD + b"Connection: close\r\n", body))
            await writer.drain()
            return reader, writer

        async with asyncio.timeout(60):
            silent, slow = (await ask())[0], (await ask())[0]
            found = b""
            while part := await slow.read(1 << 20):
                if len(found) < 1_000_000:  # for longer than the bound in all
                    await asyncio.sleep(0.01)
                found += part
            assert found.count(b"xxxx") and len(found) > 256 * 14_000
            with pytest.raises(OSError):
                while await silent.read(1 << 20):
                    pass


async def test_an_app_that_is_mounted_under_a_path_keeps_its_keys_and_its_open_probes() -> None:
    service, config = RewardService(scripted()), ServeConfig(api_keys={"trainer": HASH})
    outer = FastAPI()
    outer.mount("/judge", create_app(service, config))
    asked, key = {"problem": "p", "steps": ["a"]}, {"X-API-Key": KEY}
    async with service, listening(outer, service, config) as live:
        assert (await live.get("/judge/healthz"))[0] == 200
        assert (await live.get("/judge/metrics"))[0] == 401
        assert (await live.post("/judge/v1/verify", asked))[0] == 401
        assert (await live.post("/judge/v1/verify", asked, headers=key))[0] == 200
        _, metrics = await live.get("/judge/metrics", headers=key)
    assert 'genprm_http_requests_total{key="trainer",path="/v1/verify",status="200"} 1.0' in metrics


async def test_many_who_leave_at_once_leave_nothing_behind(serving: Serving) -> None:
    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        await asyncio.Event().wait()
        return 0.0

    async with serving(ScriptedReward(hang), in_work=8, queue=100) as live:
        bodies = [{"problem": f"p{number}", "steps": ["a"]} for number in range(30)]
        calls = [asyncio.create_task(live.post("/v1/verify", body)) for body in bodies]
        async with asyncio.timeout(30):
            while live.service.counts.calls < 30:
                await asyncio.sleep(0.01)
            assert (live.service.running, live.service.waiting) == (8, 22)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            while await live.metric("genprm_cancelled_total") != 30:
                await asyncio.sleep(0.01)
        assert await live.metric("genprm_running") == await live.metric("genprm_waiting") == 0
