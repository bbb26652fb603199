"""Whoever opens, cancels, forks or forgets a sandbox: it belongs to one event loop, and closing leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import processes
import pytest
from conftest import MODE

from genprm.errors import GenPRMError, SandboxDied, SandboxUnavailable
from genprm.sandbox import IsolatedSandbox, Status
from genprm.sandbox.worker import BoxFailed, Worker


def children() -> set[int]:
    return {pid for pid in processes.descendants(os.getpid()) if processes.state(pid) not in "ZX"}


def nothing_left(before: set[int]) -> bool:
    end = time.monotonic() + 10
    while children() - before and time.monotonic() < end:
        time.sleep(0.02)
    return not children() - before


def make(**options: Any) -> IsolatedSandbox:
    return IsolatedSandbox("plain", mode=MODE, **({"workers": 1} | options))


async def test_closing_ends_while_a_forked_child_of_the_host_lives() -> None:
    """The child holds copies of everything that the host had open, also of the sockets to the boxes."""
    before = children()
    sandbox = make(workers=2)
    await sandbox.start()
    session = await sandbox.open()
    await session.run("x = 1")
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        await asyncio.wait_for(sandbox.aclose(), 30)
        assert await asyncio.to_thread(nothing_left, before | {child})
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def test_closing_ends_while_the_launcher_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genprm.sandbox.launching._END_SECONDS", 0.5)
    before = children()
    sandbox = make()
    await sandbox.start()
    os.kill(processes.launchers(sandbox)[0], signal.SIGSTOP)
    await asyncio.wait_for(sandbox.aclose(), 30)
    assert await asyncio.to_thread(nothing_left, before)


async def test_many_first_uses_at_once_make_one_set_of_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    before, made = children(), []
    start = Worker.start

    async def counted(**options: Any) -> Worker:
        made.append(await start(**options))
        return made[-1]

    monkeypatch.setattr(Worker, "start", counted)
    sandbox = make(workers=2)
    sessions = await asyncio.gather(*(sandbox.open() for _ in range(8)))
    assert [(await one.run("print(1)")).stdout for one in sessions] == ["1\n"] * 8
    assert len(made) == 2
    await sandbox.aclose()
    assert await asyncio.to_thread(nothing_left, before)


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1, 0.3, 0.6])
async def test_a_cancelled_start_leaves_nothing(seconds: float) -> None:
    before = children()

    async def use() -> None:
        async with make(workers=3):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(use())
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(nothing_left, before)


async def test_closing_during_the_start_ends_it_for_everybody() -> None:
    before = children()
    sandbox = make(workers=2)
    waiting = [asyncio.ensure_future(sandbox.open()) for _ in range(3)]
    await asyncio.sleep(0.05)
    await sandbox.aclose()
    for done in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(done, SandboxDied)
    assert await asyncio.to_thread(nothing_left, before)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("fault", [BoxFailed("no more"), OSError(24, "too many"), RuntimeError("odd")])
async def test_a_box_that_fails_takes_the_others_along(
    monkeypatch: pytest.MonkeyPatch, position: int, fault: Exception
) -> None:
    before, count = children(), 0
    start = Worker.start

    async def failing(**options: Any) -> Worker:
        nonlocal count
        count += 1
        if count > position:
            raise fault
        return await start(**options)

    monkeypatch.setattr(Worker, "start", failing)
    sandbox = make(workers=3)
    with pytest.raises((GenPRMError, OSError, RuntimeError)):
        await sandbox.open()
    assert await asyncio.to_thread(nothing_left, before)
    await sandbox.aclose()


async def test_canaries_that_break_leave_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()

    async def broken(*arguments: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("genprm.sandbox.isolated.examine", broken)
    with pytest.raises(RuntimeError):
        await make().open()
    assert await asyncio.to_thread(nothing_left, before)


async def test_a_box_that_cannot_be_launched_is_a_box_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(SandboxUnavailable, match="could not be started"):
        await make().open()
    assert await asyncio.to_thread(nothing_left, before)


IN_ANOTHER_LOOP: dict[str, Callable[[IsolatedSandbox, Any], Any]] = {
    "open": lambda sandbox, session: sandbox.open(),
    "start": lambda sandbox, session: sandbox.start(),
    "run": lambda sandbox, session: session.run("print(x)"),
    "fork": lambda sandbox, session: session.fork().run("print(x)"),
    "with": lambda sandbox, session: sandbox.__aenter__(),
}


@pytest.mark.parametrize("use", IN_ANOTHER_LOOP)
def test_use_from_a_second_event_loop_is_one_clear_error(use: str) -> None:
    before = children()
    sandbox = make()

    async def first() -> Any:
        session = await sandbox.open()
        await session.run("x = 1")
        return session

    async def second() -> None:
        await IN_ANOTHER_LOOP[use](sandbox, session)

    session = asyncio.run(first())
    with pytest.raises(SandboxUnavailable, match="another event loop") as caught:
        asyncio.run(second())
    assert "asyncio.run" in caught.value.hint
    asyncio.run(sandbox.aclose())
    assert nothing_left(before)


def test_use_from_a_second_thread_while_the_first_loop_runs() -> None:
    before = children()

    async def main() -> None:
        async with make() as sandbox:
            session = await sandbox.open()
            await session.run("x = 1")
            with pytest.raises(SandboxUnavailable, match="another event loop"):
                await asyncio.to_thread(asyncio.run, session.run("print(x)"))
            assert (await session.run("print(x)")).stdout == "1\n"

    asyncio.run(main())
    assert nothing_left(before)


FORGOTTEN = """
import asyncio
from genprm.sandbox import IsolatedSandbox
sandbox = IsolatedSandbox("plain", workers=2, mode={mode!r})
async def main():
    session = await sandbox.open()
    print((await session.run("print(1)")).stdout, end="")
asyncio.run(main())
print("end", flush=True)
"""


def test_a_sandbox_that_nobody_closes_ends_with_its_process() -> None:
    before = children()
    done = subprocess.run(
        [sys.executable, "-c", FORGOTTEN.format(mode=MODE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "1\nend\n", done.stderr
    assert nothing_left(before)


async def test_a_closed_session_keeps_no_process(box: IsolatedSandbox) -> None:
    """Also one that is closed at the moment at which its code ends."""
    before = processes.of(box)
    for moment in (0.0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.02):
        session = await box.open()
        task = asyncio.ensure_future(session.run("x = 1"))
        await asyncio.sleep(moment)
        await session.aclose()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, SandboxDied) or getattr(outcome, "status", None) is Status.OK
    assert not await processes.settle(box, before)
