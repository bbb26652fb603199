"""Sandboxes shared by the tests of this room: one for each tier, in one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from genprm.sandbox import IsolatedSandbox, Limits

QUICK = Limits(soft_seconds=1.5, hard_seconds=2.0, cpu_seconds=3, memory_mb=600)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/sandbox" in str(item.path) and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def plain() -> AsyncIterator[IsolatedSandbox]:
    async with IsolatedSandbox("plain", workers=1, limits=QUICK, max_running=4) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def numpy() -> AsyncIterator[IsolatedSandbox]:
    async with IsolatedSandbox("numpy", workers=1, limits=QUICK, max_running=4) as sandbox:
        yield sandbox
