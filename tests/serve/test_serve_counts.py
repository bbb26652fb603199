"""Whatever happens to requests, the counts add up in the end, and nothing is left behind."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import Live, Serving

from genprm import EngineUnavailable, ScriptedReward

KEYS = {name: f"gp-{name}" for name in "abc"}
HASHES = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in KEYS.items()}
LIMITS = {"a": {"concurrency": 3}, "*": {"concurrency": 20}}


async def judge(problem: str, steps: Sequence[str], index: int) -> float | None:
    drawn = random.Random(f"{problem}/{index}").random()
    await asyncio.sleep(0.02 * drawn)
    if drawn < 0.05:
        raise EngineUnavailable("refused")
    if drawn < 0.07:
        raise KeyError("a bug")
    return None if drawn < 0.1 else 0.5


def drawn_request(draw: random.Random) -> tuple[str, Any]:
    """A request like many others: native, a stream, a batch or a dialect's; with or without a deadline."""
    problem = f"p{draw.randrange(30)}"
    kind = draw.random()
    if kind < 0.3:
        return "/slime", {"prompt": problem, "response": "Step 1: a\n\nStep 2: b"}
    deadline = draw.choice([None, None, 1e-9, 0.001, 0.02])
    if kind < 0.4:
        items = [{"problem": f"p{draw.randrange(30)}", "steps": ["a"]} for _ in range(4)]
        return "/v1/verify/batch", {"items": items, "deadline_seconds": deadline}
    steps = ["a"] * draw.randrange(1, 4)
    body = {"problem": problem, "steps": steps, "stream": kind < 0.6, "deadline_seconds": deadline}
    return "/v1/verify", body


async def ask_and_leave(live: Live, draw: random.Random) -> None:
    for _ in range(20):
        path, body = drawn_request(draw)
        headers = {"X-API-Key": KEYS[draw.choice("abc")]}

        async def ask(path: str = path, body: Any = body, headers: dict[str, str] = headers) -> int:
            async with live.http.post(live.url + path, json=body, headers=headers) as response:
                await response.read()
                return response.status

        call = asyncio.create_task(ask())
        if draw.random() < 0.25:
            await asyncio.sleep(0.02 * draw.random())
            call.cancel()
        (status,) = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(status, asyncio.CancelledError) or status in (200, 429, 500, 503), status


@pytest.mark.filterwarnings("ignore")
async def test_counts_add_up_whatever_happens(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    config = {"in_work": 4, "queue": 4, "linger_seconds": 0.2, "recent_seconds": 0.2, "limits": LIMITS}
    async with serving(ScriptedReward(judge), api_keys=HASHES, **config) as live:
        await asyncio.gather(*(ask_and_leave(live, random.Random(number)) for number in range(15)))
        key = {"X-API-Key": KEYS["b"]}
        async with asyncio.timeout(30):
            while live.service.running or live.service.waiting:
                await asyncio.sleep(0.05)
        counts = live.service.counts
        answered = counts.recent + counts.joined + counts.verifications + counts.refused + counts.late
        assert counts.calls == answered
        assert counts.verifications == counts.finished + counts.cancelled + counts.broken
        for name in ("joined", "finished", "cancelled", "broken", "deadlines"):
            assert getattr(counts, name) > 0, f"the requests are not varied enough: no {name}"
        _, text = await live.get("/metrics", headers=key)
        assert "genprm_running 0.0" in text and "genprm_waiting 0.0" in text
        statuses = await asyncio.gather(
            *(live.post("/v1/verify", {"problem": f"q{n}", "steps": ["a"]}, headers=key) for n in range(6))
        )
        assert {status for status, _, _ in statuses} <= {200, 500}, "every place is free again"
