"""Levels, refusals, lost boxes and lost hosts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
from conftest import MODE

from genprm.errors import SandboxDied, SandboxUnavailable
from genprm.sandbox import IsolatedSandbox, IsolationReport, Limits, Status, probe
from genprm.sandbox.canaries import examine
from genprm.sandbox.worker import Worker


async def test_the_probe_reports_a_level_with_mechanisms_and_reasons() -> None:
    report = await probe()
    assert isinstance(report, IsolationReport)
    assert report.level in (0, 1, 2, 3)
    assert report.mechanisms["seccomp"] == (report.level >= 1)
    assert report.level == 3 or report.reasons


async def test_a_sandbox_below_the_level_asked_for_refuses_with_the_reasons() -> None:
    with pytest.raises(SandboxUnavailable) as caught:
        async with IsolatedSandbox("plain", workers=1, mode="rlimits"):
            pass
    assert "canary" in caught.value.message
    for remedy in ("genprm doctor", "container", "WSL", "verify.components=cot", "allow_unsandboxed"):
        assert remedy in caught.value.hint


@pytest.mark.parametrize("system", ["darwin", "win32"])
async def test_other_systems_are_told_what_to_do(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.delattr(os, "sched_getaffinity")  # Linux alone has it
    with pytest.raises(SandboxUnavailable, match=system) as caught:
        async with IsolatedSandbox("plain"):
            pass
    for remedy in ("Linux container", "WSL 2", "verify.components=cot"):
        assert remedy in caught.value.hint


async def test_level_zero_runs_where_it_is_allowed() -> None:
    async with IsolatedSandbox("plain", workers=1, mode="rlimits", allow_unsandboxed=True) as sandbox:
        assert sandbox.report.level == 0
        session = await sandbox.open()
        await session.run("x = 1")
        branch = session.fork()
        assert (await branch.run("x += 1; print(x)")).stdout == "2\n"
        assert (
            await session.run("while True: pass", Limits(soft_seconds=0.2, hard_seconds=0.4))
        ).status is Status.TIMEOUT
        assert (await session.run("print(x)")).stdout == "1\n"


async def test_canaries_that_get_through_lower_the_level(plain: IsolatedSandbox) -> None:
    """A report follows what happened in the box, not what was set up."""
    worker = await Worker.start(
        tier="plain", mode="rlimits", limits=Limits(), memory_mb=1024, processes=4096
    )
    try:
        worker.facts |= {"seccomp": True, "gate": True, "landlock": 7, "mode": "namespaces", "uid": 1000}
        report = await examine(worker)
        assert report.level == 0
        assert any("network" in reason for reason in report.reasons)
    finally:
        await worker.aclose()


async def test_the_report_of_a_sandbox_that_has_not_started_is_an_error() -> None:
    with pytest.raises(SandboxUnavailable):
        _ = IsolatedSandbox("plain").report


async def test_a_lost_box_is_replaced_and_the_prefix_replayed() -> None:
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        session, other = await sandbox.open(), await sandbox.open()
        await session.run("x = [1]")
        await session.run("x.append(2)\nraise ValueError")
        await session.run("import random\ny = random.random()")
        before = (await session.run("print(x, y)")).stdout
        await other.run("z = 1")
        branch = session.fork()
        os.kill(processes.launchers(sandbox)[0], signal.SIGKILL)
        assert (await session.run("print(x, y)")).stdout == before
        assert (await branch.run("print(x, y)")).stdout == before
        assert (await other.run("print(z)")).stdout == "1\n"


async def test_a_killed_supervisor_and_a_killed_zygote_are_replaced() -> None:
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        session = await sandbox.open()
        await session.run("x = 1")
        for position in (0, 1):
            pids = sorted(processes.of(sandbox))
            os.kill(pids[position], signal.SIGKILL)
            assert (await session.run("print(x)")).stdout == "1\n"


async def test_a_box_lost_during_a_run_is_replaced_once() -> None:
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        session = await sandbox.open()
        await session.run("x = 1")
        task = asyncio.ensure_future(session.run("import time; time.sleep(0.5); print(x)"))
        await asyncio.sleep(0.2)
        os.kill(processes.launchers(sandbox)[0], signal.SIGKILL)
        assert (await task).stdout == "1\n"


async def test_a_prefix_that_cannot_be_replayed_is_a_fault_of_the_sandbox() -> None:
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        session = await sandbox.open()
        # Takes its time only when it runs for the second time, a while later.
        begin = time.time()
        await session.run(
            f"import time\nwhile time.time() > {begin} + 3: pass",
            Limits(soft_seconds=0.5, hard_seconds=0.7),
        )
        await asyncio.sleep(max(0, begin + 3.2 - time.time()))
        whole = processes.of(sandbox)
        os.kill(processes.launchers(sandbox)[0], signal.SIGKILL)
        async with asyncio.timeout(20):  # until then its snapshot may still answer
            while any(processes.state(pid) not in "ZX" for pid in whole):
                await asyncio.sleep(0.01)
        with pytest.raises(SandboxDied) as caught:
            await session.run("print(1)")
        assert caught.value.retryable


async def test_a_lost_snapshot_is_replayed(plain: IsolatedSandbox) -> None:
    before = processes.of(plain)
    async with await plain.open() as session:
        await session.run("x = 1")
        (pid,) = processes.of(plain) - before
        os.kill(pid, signal.SIGKILL)
        assert (await session.run("print(x)")).stdout == "1\n"


async def test_closing_leaves_no_process_and_can_be_repeated() -> None:
    sandbox = IsolatedSandbox("plain", workers=2)
    await sandbox.start()
    session = await sandbox.open()
    task = asyncio.ensure_future(session.run("while True: pass"))
    await asyncio.sleep(0.2)
    everything = processes.of(sandbox) | set(processes.launchers(sandbox))
    await sandbox.aclose()
    await sandbox.aclose()
    with pytest.raises(SandboxDied):
        await task
    assert [pid for pid in everything if processes.state(pid) not in "ZX"] == []
    with pytest.raises(SandboxDied):
        await sandbox.open()


HOST = """
import asyncio, sys
from genprm.sandbox import IsolatedSandbox
async def main():
    async with IsolatedSandbox("plain", workers=2) as sandbox:
        sessions = [await sandbox.open() for _ in range(4)]
        await asyncio.gather(*(s.run("x = 1") for s in sessions))
        tasks = [asyncio.ensure_future(s.run("while True: pass")) for s in sessions]
        await asyncio.sleep(0.3)
        print("up", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("victim", ["host", "host and launchers"])
def test_a_killed_host_leaves_nothing_behind(victim: str) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    assert host.stdout.readline() == "up\n"
    everything = processes.descendants(host.pid)
    launchers = {pid for pid in everything if parent(pid) == host.pid}
    assert len(launchers) == 2
    assert len(everything) >= 2 + 2 + 2 + 4
    os.kill(host.pid, signal.SIGKILL)
    if victim != "host":
        for pid in launchers:
            os.kill(pid, signal.SIGKILL)
    host.wait()
    host.stdout.close()
    end = time.monotonic() + 5
    while (
        left := {pid for pid in everything if processes.state(pid) not in "ZX"}
    ) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left
    if victim == "host":
        assert not [place for place in groups() if any(str(pid) in place.name for pid in launchers)]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def groups() -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob("**/genprm-box-*"))


async def test_the_memory_of_all_sessions_together_is_bounded() -> None:
    """Each stays below its own limit; the largest goes when all of them exceed the box's."""
    async with IsolatedSandbox(
        "plain", workers=1, memory_mb=400, limits=Limits(memory_mb=400), mode=MODE
    ) as sandbox:
        small = await sandbox.open()
        await small.run("x = 'small'")
        statuses = []
        for size in (150, 160, 170, 180):
            session = await sandbox.open()
            result = await session.run(f"x = bytearray({size} << 20)\nimport time\ntime.sleep(0.3)")
            statuses.append(result.status)
            kept = await small.run("print(x)")
            assert kept.stdout == "small\n"
        assert statuses[:2] == [Status.OK, Status.OK]
        box = processes.of(sandbox)
        resident = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in box) * 4096 >> 20
        assert resident < 400 + 150
