"""Requests made from the OpenAPI document: none ends in a bug, and answers are what the document says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import running

from genprm import Request, ScriptedEngine, ScriptedReward

pytestmark = pytest.mark.slow
schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 15


def write(request: Request) -> str:
    return " 1 + 1 = 2.\n\nStep 2: The answer is \\boxed{2}."


@contextmanager
def listening() -> Iterator[str]:
    """A server in a thread of its own, for a client that blocks."""
    told: list[str] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    done: asyncio.Event

    async def live() -> None:
        nonlocal done
        done = asyncio.Event()
        strategies = {"best": {"kind": "best_of_n", "n": 2}}
        reward = ScriptedReward(lambda problem, steps, index: 0.875)
        async with running(reward, policy=ScriptedEngine(write), strategies=strategies) as server:
            told.append(server.url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield told[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def test_requests_made_from_the_document_never_end_in_a_bug() -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    with listening() as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        seen: set[str] = set()
        for result in schema.get_all_operations():
            operation = result.ok()

            @given(case=operation.as_strategy())
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: Any) -> None:
                case.call_and_validate(
                    base_url=url,
                    checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
                )

            ask()
            seen.add(operation.path)
        assert {"/v1/verify", "/v1/chat/completions", "/slime", "/aggregate_metrics"} <= seen
