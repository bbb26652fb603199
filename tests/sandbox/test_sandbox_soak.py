"""Ten thousand mixed snippets leave nothing behind: no process, mount, cgroup, file or descriptor."""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import processes
import pytest

from genprm.errors import SandboxDied
from genprm.sandbox import IsolatedSandbox, Limits

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/")
COUNT = int(os.environ.get("GENPRM_SOAK_SNIPPETS", "10000"))
Counts = collections.Counter[str]
TIGHT = Limits(soft_seconds=0.1, hard_seconds=0.15, memory_mb=600)

BENIGN = [
    "print(1 + 1)",
    "x = [i * i for i in range(100)]\nprint(sum(x))",
    "import math\nprint(math.comb(10, 3))",
    "1 / 0",
]
HOSTILE = [
    "while True: pass",
    "import os\nos._exit(3)",
    "import os\nos.fork()",
    "import ctypes\nctypes.string_at(0)",
    "import threading, time\nfor _ in range(99): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    "while True: print('x' * 1000)",
    "x = [0] * 10**9",
    "import os\nos.closerange(0, 256)",
    "import os\nos.write(3, b'[\"ok\",null,null,1]')",
    "import os\nos.write(3, b'garbage')",
    "import os\nos.kill(-1, 9)",
    "import subprocess\nsubprocess.run('id')",
    "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass",
    "import os, tempfile\ntempfile.mkdtemp()",
    "import socket\nsocket.create_connection(('127.0.0.1', 1))",
]


def traces() -> dict[str, Any]:
    """Everything that a sandbox could leave on the machine and in this process, but for cgroups."""
    gc.collect()
    return {
        "descriptors": count("/proc/self/fd"),
        "threads": count("/proc/self/task"),
        "processes": sorted(processes.descendants(os.getpid())),
        "mounts": Path("/proc/self/mountinfo").read_text().count("\n"),
        "files": sorted(str(path) for place in PLACES for path in Path(place).iterdir() if from_box(path)),
    }


def count(place: str) -> int:
    return len(list(Path(place).iterdir()))


def from_box(path: Path) -> bool:
    """Whether a file belongs to a user that only boxes run as, or to the code of this test."""
    try:
        return path.lstat().st_uid >= 0x70000000 or path.name.startswith(
            ("genprm-attack", "genprm-link", "genprm-canary")
        )
    except FileNotFoundError:
        return False


def cgroups() -> set[Path]:
    """The cgroups of all boxes of this machine, those of other processes included."""
    return set(Path("/sys/fs/cgroup").glob("**/genprm-box-*"))


def left(before: set[Path]) -> set[Path]:
    """Those of the new cgroups whose launcher is gone, and that the next boxes do not remove either.

    A launcher waits for the kernel to release its cgroup, but not for ever: see `Cgroup.remove`.
    """
    for _ in range(20):
        found = {place for place in cgroups() - before if processes.state(launcher(place)) in "XZ"}
        if not found:
            break
        time.sleep(1)
        asyncio.run(soak(20))
    return found


def launcher(cgroup: Path) -> int:
    return int(cgroup.name.rpartition("-")[2])


async def client(sandbox: IsolatedSandbox, rng: random.Random, left: list[int], seen: Counts) -> None:
    while left[0] > 0:
        async with await sandbox.open() as session:
            try:
                for _ in range(rng.randrange(1, 5)):
                    left[0] -= 1
                    code = rng.choice(HOSTILE) if rng.random() < 0.2 else rng.choice(BENIGN)
                    result = await session.run(code, TIGHT if code in HOSTILE else None)
                    seen[result.status] += 1
                    if rng.random() < 0.1:
                        async with session.fork() as branch:
                            left[0] -= 1
                            seen[(await branch.run("print(2)")).status] += 1
            except SandboxDied:
                seen["lost"] += 1  # after a forged outcome a session may be past help


async def soak(snippets: int) -> Counts:
    seen: Counts = collections.Counter()
    left = [snippets]
    async with IsolatedSandbox("plain", limits=Limits(memory_mb=600)) as sandbox:
        inside = processes.of(sandbox)
        await asyncio.gather(*(client(sandbox, random.Random(number), left, seen) for number in range(24)))
        assert not await processes.settle(sandbox, inside, seconds=5)
        launcher = processes.launchers(sandbox)[0]
        supervisor = min(processes.descendants(launcher))
        assert count(f"/proc/{supervisor}/fd") < 20
    return seen


def leave_nothing_behind(snippets: int) -> None:
    """Raises AssertionError if they leave something. Of a process of its own, since other tests leave threads here."""
    asyncio.run(soak(20))  # what the first use of a library leaves in this process is not the question
    before, boxes = traces(), cgroups()
    seen = asyncio.run(soak(snippets))
    after = traces()
    assert after == before, (before, after)
    assert not left(boxes)
    assert sum(seen.values()) >= snippets * 0.95, seen
    assert seen["ok"] > snippets * 0.4, seen
    assert {"error", "timeout", "died", "output_limit"} <= set(seen), seen
    assert seen["lost"] < snippets * 0.05, seen


@pytest.mark.parametrize(
    "snippets", [300, pytest.param(COUNT, marks=[pytest.mark.slow, pytest.mark.alone])]
)
def test_mixed_snippets_leave_nothing_behind(snippets: int) -> None:
    code = f"from test_sandbox_soak import leave_nothing_behind; leave_nothing_behind({snippets})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
