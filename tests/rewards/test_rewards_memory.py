"""However many items there are, memory stays what a few of them take."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, resource, sys
from genprm.config import VerifyConfig
from genprm.engines.scripted import Scripted, ScriptedEngine
from genprm.records import VerifyItem
from genprm.rewards import Verifier

count = int(sys.argv[1])

async def main():
    engine = ScriptedEngine(lambda request: Scripted("Yes}", (0.9,)))
    verifier = Verifier(engine, None, VerifyConfig(profile="compact", components="direct"))
    items = (VerifyItem(id=str(n), problem=f"What is {n} + 1? " * 20, steps=("Add.",)) for n in range(count))
    done = 0
    async for result in verifier.judge(items):
        done += result.first_error == -1
    print(done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

asyncio.run(main())
"""


def stream(count: int) -> tuple[int, int]:
    """Items verified, and the peak of resident memory in KiB, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(count)], check=True, capture_output=True, text=True
    )
    done, peak = map(int, run.stdout.split())
    return done, peak


@pytest.mark.slow
def test_100_000_items_take_no_more_memory_than_1_000() -> None:
    few, small = stream(1_000)
    many, large = stream(100_000)
    assert (few, many) == (1_000, 100_000)
    assert large <= 1.3 * small, (small, large)
