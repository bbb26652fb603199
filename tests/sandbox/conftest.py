"""Sandboxes shared by the tests of this folder: one for each tier, and one for each level, in one event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from genprm.errors import SandboxUnavailable
from genprm.sandbox import IsolatedSandbox, Limits

QUICK = Limits(soft_seconds=8, hard_seconds=10, cpu_seconds=8, memory_mb=600)
CANARY = "GENPRM_TEST_CANARY"
# Set by the tests that run this folder again as another user or in another way.
MODE = os.environ.get("GENPRM_TEST_SANDBOX_MODE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def _canary() -> Iterator[None]:
    os.environ[CANARY] = "a secret of the host"
    yield
    del os.environ[CANARY]


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def plain(_canary: None) -> AsyncIterator[IsolatedSandbox]:
    async with IsolatedSandbox("plain", workers=1, limits=QUICK, max_running=4, mode=MODE) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def numpy(_canary: None) -> AsyncIterator[IsolatedSandbox]:
    async with IsolatedSandbox("numpy", workers=1, limits=QUICK, max_running=4, mode=MODE) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(
    loop_scope="session", scope="session", params=[MODE] if MODE else ["namespaces", "landlock"]
)
async def box(_canary: None, request: pytest.FixtureRequest) -> AsyncIterator[IsolatedSandbox]:
    """A sandbox of each way of isolating that this machine and user have: levels 3 or 2, and 1."""
    sandbox = IsolatedSandbox("plain", workers=1, limits=QUICK, max_running=4, mode=request.param)
    try:
        await sandbox.start()
    except SandboxUnavailable as reason:
        pytest.skip(reason.message)
    yield sandbox
    await sandbox.aclose()
