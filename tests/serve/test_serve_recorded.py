"""Bodies as the clients named in `recorded.json` write them, from their sources: each is read, and retries share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Serving
from serve_bodies import learned

from genprm import ScriptedReward

RECORDED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("recorded.json").read_text("utf-8"))
NAMES = {"/verify": "nemo_gym"}


def name(row: dict[str, Any]) -> str:
    return NAMES.get(row["path"], row["path"].removeprefix("/"))


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['path']}: {row['what']}")
async def test_a_recorded_request_is_read(serving: Serving, row: dict[str, Any]) -> None:
    seen: list[tuple[str, Sequence[str]]] = []

    def judge(problem: str, steps: Sequence[str], index: int) -> float:
        seen.append((problem, list(steps)))
        return 0.75

    async with serving(ScriptedReward(judge)) as live:
        status, answer, _ = await live.post(row["path"], row["body"])
        unknown = row.get("unknown")
        line = f'genprm_unknown_total{{dialect="{name(row)}",kind="{unknown}"}}'
        assert await live.metric(line) == (1 if unknown else None)
    numbers = learned(name(row), status, answer)
    if "steps" in row:
        assert status == 200 and seen[-1] == (row["problem"], row["steps"])
        assert numbers and set(numbers) == {0.75}
    else:
        assert not seen and numbers == []
        assert status == 200 if row.get("none") else unknown in json.dumps(answer)


@pytest.mark.parametrize("path", ["/openrlhf", "/slime", "/verify", "/pooling", "/classify"])
async def test_retries_of_a_client_that_gave_up_share_one_verification(serving: Serving, path: str) -> None:
    """Trainers time out, leave, and send the same body again, while other workers wait for the first one."""
    row = next(row for row in RECORDED if row["path"] == path and "steps" in row)
    asked, go = 0, asyncio.Event()

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        nonlocal asked
        asked += 1
        await go.wait()
        return 0.75

    async with serving(ScriptedReward(judge)) as live:
        calls = [asyncio.create_task(live.post(path, row["body"])) for _ in range(3)]
        async with asyncio.timeout(20):
            while live.service.counts.calls < len(calls):
                await asyncio.sleep(0.01)
            calls[0].cancel()
            await asyncio.gather(calls[0], return_exceptions=True)
            calls.append(asyncio.create_task(live.post(path, row["body"])))
            while live.service.counts.calls < len(calls):
                await asyncio.sleep(0.01)
        go.set()
        answers = [await call for call in calls[1:]]
        assert live.service.counts.verifications == 1 and asked == len(row["steps"])
    assert all(learned(name(row), status, answer) for status, answer, _ in answers)


@pytest.mark.parametrize(
    "path", ["/openrlhf", "/slime", "/verify", "/pooling", "/classify", "/v1/verify/batch"]
)
async def test_a_client_that_leaves_frees_its_work(serving: Serving, path: str) -> None:
    async def hang(problem: str, steps: Sequence[str], index: int) -> float:
        await asyncio.Event().wait()
        return 0.0

    batch = {"items": [{"problem": "p", "steps": ["a"]}]}
    bodies = {row["path"]: row["body"] for row in RECORDED if "steps" in row}
    async with serving(ScriptedReward(hang)) as live:
        call = asyncio.create_task(live.post(path, bodies.get(path, batch)))
        async with asyncio.timeout(20):
            while await live.metric("genprm_running") != 1:
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            while await live.metric("genprm_cancelled_total") != 1:
                await asyncio.sleep(0.01)
        assert await live.metric("genprm_running") == 0
        line = f'genprm_http_requests_total{{key="",path="{path}",status="499"}}'
        assert await live.metric(line) == 1
