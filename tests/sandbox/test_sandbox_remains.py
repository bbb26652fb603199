"""Whatever of genprm's own processes is killed, and in whatever order, a box leaves nothing behind.

A box's processes are known by their session: it is the supervisor's, and code in the box cannot leave it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import processes
import pytest
from conftest import MODE

from genprm.sandbox import IsolatedSandbox

MODES = [MODE] if MODE else ["namespaces", "landlock"]

# States of every kind, and forks under way at every moment.
HOST = """
import asyncio, sys
from genprm.sandbox import Limits
from genprm.sandbox.worker import BoxFailed, SnapshotLost, Worker
LIMITS = Limits(soft_seconds=60, hard_seconds=90, cpu_seconds=60)
async def main():
    try:
        box = await Worker.start(tier="plain", mode={mode!r}, limits=LIMITS, memory_mb=1024, processes=4096)
    except BoxFailed as failure:
        print("none", failure.message, flush=True)
        return
    run = lambda parent, code: box.execute(parent, code, LIMITS, 0)
    idle, _ = await run(0, "x = 1")
    second, _ = await run(idle, "x = 2")
    await run(0, "import threading, time\\nthreading.Thread(target=time.sleep, args=(1000,)).start()")
    await run(0, "import signal\\nfor n in signal.valid_signals() - {{9, 19}}: signal.signal(n, signal.SIG_IGN)")
    await run(0, "a = open('/dev/null')\\nimport os\\nos.closerange(4, 256)")
    busy = [asyncio.ensure_future(run(parent, "while True: pass")) for parent in (0, second)]
    print("up", box._launcher.pid, flush=True)
    try:
        for turn in range(1_000_000):
            forks = await asyncio.gather(*(run(parent, "y = 1") for parent in (0, idle, second)))
            if turn % 2:
                for number, _ in forks: box.drop(number)
            print(turn, flush=True)
    except SnapshotLost:
        await asyncio.sleep(1000)
asyncio.run(main())
"""
KINDS = ("host", "launcher", "supervisor", "zygote")
# All ways of killing one, and the three that could clean up, in every order.
ORDERS = [(kind,) for kind in KINDS] + list(itertools.permutations(KINDS[:3]))
# The launcher and the zygote hold what the kernel kills a box by; one of them is enough.
PAIRS = [pair for pair in itertools.permutations(KINDS, 2) if set(pair) != {"launcher", "zygote"}]


@contextlib.contextmanager
def host_of_a_box(mode: str) -> Iterator[tuple[dict[str, int], IO[str]]]:
    """The processes of a host and its box, by kind, and what the host says about its rounds of forks."""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST.format(mode=mode)], stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    try:
        said, _, rest = host.stdout.readline().strip().partition(" ")
        if said == "none":
            pytest.skip(rest)
        assert said == "up"
        (supervisor,) = children(int(rest))
        zygote = children(supervisor)[0]
        yield dict(zip(KINDS, (host.pid, int(rest), supervisor, zygote), strict=True)), host.stdout
    finally:
        host.kill()
        host.wait()
        host.stdout.close()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def in_session(leader: int) -> set[int]:
    """The living processes of a session."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = processes._stat(int(entry.name))
            if fields and fields[0] not in "ZX" and int(fields[3]) == leader:
                found.add(int(entry.name))
    return found


def groups(launcher: int) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/genprm-box-{launcher}"))


def left_behind(box: dict[str, int]) -> set[int]:
    """What lives of a box, once there is nothing or time is up."""
    end = time.monotonic() + 15
    while True:
        left = in_session(box["supervisor"])
        if processes.state(box["launcher"]) not in "ZX":
            left.add(box["launcher"])
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.01)


def kill(box: dict[str, int], order: tuple[str, ...]) -> None:
    for kind in order:
        with contextlib.suppress(ProcessLookupError):
            os.kill(box[kind], signal.SIGKILL)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_nothing_outlives_a_box_that_was_killed(mode: str, order: tuple[str, ...]) -> None:
    with host_of_a_box(mode) as (box, said):
        for _ in range(3):
            said.readline()
        assert len(in_session(box["supervisor"])) >= 7
        kill(box, order)
        assert not left_behind(box)
        if "launcher" not in order:
            assert not groups(box["launcher"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_nothing_outlives_a_box_that_was_killed_at_a_random_moment(mode: str) -> None:
    chance = random.Random(0)
    for order in (*PAIRS, *ORDERS):
        with host_of_a_box(mode) as (box, said):
            said.readline()
            time.sleep(chance.uniform(0, 0.03))
            kill(box, order)
            assert not left_behind(box), order


@pytest.mark.parametrize("mode", MODES)
def test_nothing_outlives_a_box_whose_launcher_is_stopped(mode: str) -> None:
    with host_of_a_box(mode) as (box, _):
        os.kill(box["launcher"], signal.SIGSTOP)
        os.kill(box["supervisor"], signal.SIGKILL)
        end = time.monotonic() + 15
        while in_session(box["supervisor"]) and time.monotonic() < end:
            time.sleep(0.01)
        assert not in_session(box["supervisor"])
        os.kill(box["launcher"], signal.SIGCONT)
        assert not left_behind(box)


@pytest.mark.parametrize("mode", MODES)
def test_what_a_terminal_sends_to_the_host_does_not_reach_the_box(mode: str) -> None:
    """Ctrl-C and Ctrl-Z go to a process group of the terminal's session."""
    with host_of_a_box(mode) as (box, _):
        inside = in_session(box["supervisor"]) | {box["launcher"]}
        assert len(inside) >= 7
        for pid in inside:
            assert os.getsid(pid) != os.getsid(box["host"])
            assert os.getpgid(pid) != os.getpgid(box["host"])


def test_a_sandbox_that_is_forgotten_in_a_living_process_cleans_up() -> None:
    """Also behind itself: nobody kills the launcher."""

    async def use() -> list[int]:
        sandbox = IsolatedSandbox("plain", workers=2, mode=MODE)
        await (await sandbox.open()).run("x = 1")
        return processes.launchers(sandbox)

    before = processes.descendants(os.getpid())
    launchers = asyncio.run(use())
    gc.collect()
    end = time.monotonic() + 15
    while any(processes.state(pid) not in "ZX" for pid in launchers) and time.monotonic() < end:
        time.sleep(0.01)
    new = processes.descendants(os.getpid()) - before
    assert not {pid for pid in new if processes.state(pid) not in "ZX"}
    assert not [place for launcher in launchers for place in groups(launcher)]
