# ruff: noqa: E501 - the attacks are code in strings
"""A state that was lost is made again as it was, or the fault is the sandbox's: never an empty or another state."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import processes
import pytest
from attempts import HARSH

from genprm.errors import SandboxDied, SandboxError
from genprm.sandbox import IsolatedSandbox, Limits, Status

# Runs long until a point in time, and from then on short; or the other way round.
SLOW_UNTIL = "import time\nx = 5\nwhile time.time() < {0}: pass"
SLOW_FROM = "import time\nx = 5\nwhile time.time() > {0}: pass"
BRIEF = Limits(soft_seconds=0.4, hard_seconds=0.6)


async def lose(sandbox: IsolatedSandbox) -> None:
    """Kill the process that holds the state of the only session."""
    inside = set(sorted(processes.of(sandbox))[:2])  # supervisor and zygote
    (pid,) = await processes.settle(sandbox, inside, most=1)
    os.kill(pid, signal.SIGKILL)
    assert not await processes.settle(sandbox, inside)


async def test_a_session_never_continues_on_an_empty_state() -> None:
    """As long as its prefix does not come out as before, every run is the sandbox's fault; then the state is back."""
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        session = await sandbox.open()
        begin = time.time() + 1
        # Slow only for a while that begins after it ran.
        code = f"import time\nx = 5\nwhile {begin} < time.time() < {begin + 3}: pass"
        assert (await session.run(code, BRIEF)).status is Status.OK
        await lose(sandbox)
        await asyncio.sleep(max(0, begin + 0.1 - time.time()))
        for _ in range(2):
            with pytest.raises(SandboxDied) as caught:
                await session.run("print(x)")
            assert caught.value.retryable and "replayed" in caught.value.message
            with pytest.raises(SandboxDied):
                await session.fork().run("print(x)")
        await asyncio.sleep(max(0, begin + 3.1 - time.time()))
        assert (await session.run("print(x)")).stdout == "5\n"


async def test_a_cancelled_replay_leaves_the_session_to_be_replayed() -> None:
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        session = await sandbox.open()
        await session.run("x = [1]")
        await session.run("import time\ntime.sleep(0.5)\nx.append(2)")
        await lose(sandbox)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.run("print(x)"), 0.2)
        assert (await session.run("print(x)")).stdout == "[1, 2]\n"
        assert (await session.run("x.append(3)\nprint(x)")).stdout == "[1, 2, 3]\n"


async def test_a_snippet_that_fails_otherwise_when_replayed_is_a_fault_of_the_sandbox() -> None:
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        for first, then in (("pass", "1 / 0"), ("1 / 0", "pass"), ("1 / 0", "[][0]")):
            session = await sandbox.open()
            when = time.time() + 0.5
            await session.run(
                f"import time\nx = 1\nif time.time() < {when}:\n    {first}\nelse:\n    {then}"
            )
            await asyncio.sleep(0.5)
            await lose(sandbox)
            with pytest.raises(SandboxDied):
                await session.run("print(x)")
            await session.aclose()


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05])
async def test_a_cancelled_run_leaves_the_state_whenever_it_comes(
    box: IsolatedSandbox, moment: float
) -> None:
    async with await box.open() as session:
        await session.run("x = 1")
        task = asyncio.ensure_future(session.run("x += 1\nprint(x)"))
        await asyncio.sleep(moment)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        expected = "1\n" if isinstance(outcome, asyncio.CancelledError) else "2\n"
        assert (await session.run("print(x)")).stdout == expected


HIJACKS = {
    "never forks": "import os, time\nos.fork = lambda: time.sleep(1000)",
    "never listens": "import socket, time\nsocket.recv_fds = lambda *a: time.sleep(1000)\n",
    "spins": "import os\ndef fork():\n  while True: pass\nos.fork = fork",
    "forks and hides": "import os\nreal = os.fork\ndef fork():\n  if real() == 0:\n    while True: pass\n  while True: pass\nos.fork = fork",
    "spins in the child before it says hello": "import os\nreal, wrote = os.fork, os.write\ndef write(fd, data):\n  if data == b'hello':\n    while True: pass\n  return wrote(fd, data)\nos.write = write",
    "spins behind hello": "import random\ndef setstate(state):\n  while True: pass\nrandom.setstate = setstate",
}


@pytest.mark.parametrize("kind", HIJACKS)
async def test_a_hijacked_snapshot_holds_its_caller_no_longer_than_the_hard_limit(
    box: IsolatedSandbox, kind: str
) -> None:
    before = processes.of(box)
    async with await box.open() as session, await box.open() as bystander:
        await bystander.run("kept = 'by'")
        assert (await session.run(HIJACKS[kind])).status in (Status.OK, Status.ERROR)
        began = time.monotonic()
        try:
            result = await session.run("print(1)", HARSH)
        except SandboxError:
            pass
        else:
            assert result.status in (Status.TIMEOUT, Status.DIED)
        assert time.monotonic() - began < HARSH.hard_seconds + 1.5
        assert (await bystander.run("print(kept)")).stdout == "by\n"
        assert len(await processes.settle(box, before, 2)) <= 2
    assert not await processes.settle(box, before)


TWICE = {
    "while it is asked": """
import os, socket
real, fork = socket.recv_fds, os.fork
def recv_fds(*arguments):
    found = real(*arguments)
    if found[0] == b"?":
        try:
            if fork() == 0:
                while True: pass
        except OSError: pass
    return found
socket.recv_fds = recv_fds
""",
    "by answers that nobody asked for": """
import os
fork, write = os.fork, os.write
def lying():
    child = fork()
    for _ in range(5 if child else 0):
        write(3, b"!")
        try:
            if fork() == 0:
                while True: pass
        except OSError: pass
    return child
os.fork = lying
""",
    "by a failure that was none": """
import os
fork, write = os.fork, os.write
def lying():
    if fork() == 0:
        while True: pass
    write(3, b"no fork")
    return -1
os.fork = lying
""",
}


@pytest.mark.parametrize("way", TWICE)
async def test_a_hijacked_snapshot_makes_one_process_for_each_request(
    box: IsolatedSandbox, way: str
) -> None:
    before = processes.of(box)
    async with await box.open() as session, await box.open() as bystander:
        await bystander.run("kept = 'by'")
        await session.run(TWICE[way])
        for _ in range(3):
            try:
                async with session.fork() as branch:
                    await branch.run("x = 1", HARSH)
            except SandboxError:
                pass
            assert len(await processes.settle(box, before, 2)) <= 2, "bystander, and the hijacked state"
        assert (await bystander.run("print(kept)")).stdout == "by\n"
    assert not await processes.settle(box, before)
