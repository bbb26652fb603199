# ruff: noqa: E501 - the attacks are code in strings
"""Limits: checked when they are made, kept whatever the code does, and over with the run that they belong to."""

from __future__ import annotations

import asyncio
import math
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import processes
import pytest
from attempts import HARSH, once
from conftest import MODE

from genprm.config import SandboxConfig
from genprm.errors import ConfigError, SandboxDied, SandboxError
from genprm.sandbox import IsolatedSandbox, Limits, Status, isolated, make_sandbox

TIMES = ("soft_seconds", "hard_seconds", "cpu_seconds")
NUMBERS = ("memory_mb", "processes", "open_files", "file_mb", "output_bytes")


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, -1, math.inf, -math.inf, math.nan, 1e300, "5", None, True, 10**400])
def test_a_time_limit_is_positive_and_finite(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Limits(**{name: value})
    assert caught.value.hint


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, 1.5, math.inf, math.nan, 2**80, "5", None, True])
def test_other_limits_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"workers": -1}, {"max_running": 0}, {"memory_mb": 0}, {"workers": 1.5}]
)
def test_numbers_of_a_sandbox_are_positive(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        IsolatedSandbox("plain", **options)


def test_a_config_with_an_endless_limit_is_a_config_error() -> None:
    with pytest.raises(ConfigError):
        make_sandbox(SandboxConfig(soft_seconds=1e300), "plain")


@pytest.mark.parametrize(
    ("tight", "code", "shown"),
    [
        (Limits(memory_mb=100), "x = bytearray(200 << 20)\nprint(len(x) >> 20)", "200"),
        (Limits(open_files=10), "import os\nfds = [os.dup(0) for _ in range(30)]\nprint(len(fds))\nfor fd in fds: os.close(fd)", "30"),
        (Limits(output_bytes=1), "print('12345')", "12345"),
        (Limits(file_mb=0), "import resource\nprint(resource.getrlimit(resource.RLIMIT_FSIZE)[0] >> 20)", "16"),
        (Limits(cpu_seconds=1), "import resource\nprint(resource.getrlimit(resource.RLIMIT_CPU)[0])", "8"),
        (Limits(processes=0), "import threading\nt = threading.Thread(target=print, args=('ran',))\nt.start()\nt.join()", "ran"),
    ],
)  # fmt: skip
async def test_a_tight_limit_ends_with_its_run(
    box: IsolatedSandbox, tight: Limits, code: str, shown: str
) -> None:
    async with await box.open() as session:
        await session.run("x = 1")
        for _ in range(2):
            await session.run("y = 2", tight)
            assert (await session.run(code)).stdout.strip() == shown
            async with session.fork() as branch:
                assert (await branch.run(code)).stdout.strip() == shown


@pytest.mark.parametrize(
    ("tight", "code"),
    [
        (Limits(memory_mb=100), "x = bytearray(200 << 20)"),
        (Limits(open_files=10), "import os\nx = [os.dup(0) for _ in range(30)]"),
    ],
)
async def test_a_tight_limit_is_in_force_from_the_first_line(
    box: IsolatedSandbox, tight: Limits, code: str
) -> None:
    async with await box.open() as session:
        for _ in range(20):
            assert (await session.run(code, tight)).status is Status.ERROR


async def test_limits_above_the_sandboxs_own_are_cut(box: IsolatedSandbox) -> None:
    async with await box.open() as session:
        result = await session.run("x = bytearray(700 << 20)", Limits(memory_mb=4000))
        assert result.error_type == "MemoryError"


EATERS = {
    "at module level": "a = []\nwhile True: a.append(' ' * 10**5)",
    "in a function": "def f():\n  a = []\n  while True: a.append(' ' * 10**5)\nf()",
    "small objects": "a = []\nwhile True: a.append([0])",
    "a dictionary": "d = {}\ni = 0\nwhile True:\n  d[i] = i\n  i += 1",
    "in an exception": "class E(Exception): pass\na = []\ntry:\n  while True: a.append(bytearray(10**5))\nexcept MemoryError as e: raise E('x' * 100) from e",
    "one huge object": "x = bytearray(10**12)",
    "a string": "s = 'x'\nwhile True: s += s",
}
SOME = Limits(memory_mb=200, soft_seconds=20, hard_seconds=25, cpu_seconds=25)


@pytest.mark.parametrize("way", EATERS)
async def test_memory_used_up_is_an_error_of_the_code(box: IsolatedSandbox, way: str) -> None:
    async with await box.open() as session:
        await session.run("kept = 1")
        result = await session.run(EATERS[way], SOME)
        assert result.status is Status.ERROR, result
        assert result.error_type in ("MemoryError", "E"), result
        following = await session.run("print(kept)", SOME)
        assert following.stdout == "1\n" or following.error_type == "MemoryError", following
        freed = await session.run("a = d = s = x = None\nprint(kept)")
        assert freed.stdout == "1\n", freed


async def test_a_state_that_fills_its_memory_is_still_a_state(box: IsolatedSandbox) -> None:
    fill = "kept, size = [], 1 << 26\nwhile size > 1 << 12:\n  try: kept.append(bytearray(size))\n  except MemoryError: size >>= 1\nprint('full')"
    async with await box.open() as session:
        assert (await session.run(fill, SOME)).stdout == "full\n"
        for _ in range(2):
            result = await session.run("print(len(kept) > 0)", SOME)
            assert result.stdout == "True\n" or result.error_type == "MemoryError", result
        assert (await session.run("print(len(kept) > 0)")).stdout == "True\n"


PATIENT = Limits(soft_seconds=60, hard_seconds=90, cpu_seconds=60, memory_mb=400)
RESIDENT = {
    "private": "x = bytearray(250 << 20)\nimport time\ntime.sleep(0.4)",
    "in threads": "import threading, time\nkept = []\ndef work(): kept.append(bytearray(60 << 20)); time.sleep(0.5)\n"
    "threads = [threading.Thread(target=work) for _ in range(4)]\nfor t in threads: t.start()\nfor t in threads: t.join()",
    "mapped": "import mmap, time\nm = [mmap.mmap(-1, 50 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(5)]\n"
    "for one in m: one.write(b'x' * (50 << 20))\ntime.sleep(0.4)",
    "behind an ended main thread": "import ctypes, threading, time\ndef work():\n  kept = bytearray(250 << 20)\n  time.sleep(60)\n"
    "threading.Thread(target=work).start()\ntime.sleep(0.3)\nctypes.CDLL(None).pthread_exit(None)",
}


@pytest.mark.parametrize("way", RESIDENT)
@pytest.mark.parametrize("mode", [MODE] if MODE else ["namespaces", "landlock"])
async def test_memory_of_all_sessions_is_bounded_however_it_is_held(way: str, mode: str) -> None:
    sandbox = IsolatedSandbox("plain", workers=1, max_running=8, memory_mb=400, limits=PATIENT, mode=mode)
    try:
        await sandbox.start()
    except SandboxError as reason:
        pytest.skip(reason.message)
    async with sandbox:
        sessions = [await sandbox.open() for _ in range(8)]
        task = asyncio.gather(*(one.run(RESIDENT[way]) for one in sessions))
        over = 0
        while not task.done():
            over = over + 1 if resident_mb(processes.of(sandbox)) > 400 + 150 else 0
            assert over < 20, "more than the box may have, for a second"
            await asyncio.sleep(0.05)
        statuses = [one.status for one in task.result()]
        assert set(statuses) <= {Status.OK, Status.KILLED, Status.DIED}
        assert resident_mb(processes.of(sandbox)) < 400 + 150


QUEUES = """
import socket
kept = []
try:
    while True: kept.append(socket.socketpair())
except OSError: pass
kept.pop()
for one in sum(kept, ()):
    one.setblocking(False)
    try:
        while True: one.send(bytes(1 << 15))
    except BlockingIOError: pass
print(len(kept))
"""


@pytest.mark.parametrize("mode", [MODE] if MODE else ["namespaces", "landlock"])
async def test_what_the_kernel_holds_for_sessions_is_bounded(mode: str) -> None:
    """What waits in a socket is nobody's memory; here each session leaves about 13 MB there."""
    sandbox = IsolatedSandbox("plain", workers=1, memory_mb=400, limits=PATIENT, mode=mode)
    try:
        await sandbox.start()
    except SandboxError as reason:
        pytest.skip(reason.message)
    async with sandbox:
        before = processes.of(sandbox)
        sessions = [await sandbox.open() for _ in range(40)]
        results = [await one.run(QUEUES) for one in sessions]
        await once(
            sandbox, "import time\ntime.sleep(0.3)"
        )  # for as long as something runs, all are looked at
        assert {one.status for one in results} <= {Status.OK, Status.KILLED}
        (pairs,) = {int(one.stdout) for one in results if one.status is Status.OK}
        assert pairs >= 25
        most = 400 * 4 // (2 * pairs)
        assert len(await processes.settle(sandbox, before, most)) <= most


def resident_mb(pids: set[int]) -> int:
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return total >> 10


async def test_threads_of_idle_sessions_do_not_take_the_room_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The states with most threads go first; they are made again when they are needed."""
    monkeypatch.setattr(isolated, "_PROCESSES", 400)
    leave = "import threading, time\nfor _ in range(15): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nx = {}"
    async with IsolatedSandbox("plain", workers=1, mode=MODE) as sandbox:
        sessions = [await sandbox.open() for _ in range(40)]
        for number, session in enumerate(sessions):
            result = await session.run(leave.format(number))
            assert result.status is Status.OK, result
        for number, session in enumerate(sessions):
            assert (await session.run("print(x)")).stdout == f"{number}\n"


FULL = """
import asyncio, resource, sys
from genprm.errors import SandboxDied, SandboxError
from genprm.sandbox import IsolatedSandbox, isolated
isolated._PROCESSES = {processes}
resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))
async def main():
    async with IsolatedSandbox("plain", workers=1, mode={mode!r}) as sandbox:
        kept, refused = [], 0
        for number in range({sessions}):
            session = await sandbox.open()
            try:
                await session.run(f"x = {{number}}")
                kept.append((number, session))
            except SandboxError as error:
                assert error.retryable and error.hint and not isinstance(error, SandboxDied), error
                refused += 1
        assert refused > 5 and len(kept) > 5, (refused, len(kept))
        for number, session in kept[:5]:
            await session.aclose()
        await asyncio.sleep(2)  # until the kernel has forgotten their processes
        for number, session in kept[5:]:
            result = await session.run("print(x)")
            assert result.stdout == f"{{number}}\\n", result
        async with await sandbox.open() as session:
            assert (await session.run("print(7)")).stdout == "7\\n"
        print(len(kept), refused)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "least",
    [{"files": 128, "processes": 4096, "sessions": 70}, {"files": 1024, "processes": 120, "sessions": 160}],
)
def test_a_full_box_refuses_one_run_and_keeps_all_sessions(least: dict[str, int]) -> None:
    if least["processes"] < 100 and MODE == "landlock":
        pytest.skip("without a user of its own a box cannot bound its processes by number")
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(mode=MODE, **least)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]


HOST_FULL = """
import asyncio, os, resource, signal
from genprm.errors import SandboxError
from genprm.sandbox import IsolatedSandbox
async def main():
    async with IsolatedSandbox("plain", workers=1, mode={mode!r}) as sandbox:
        session = await sandbox.open()
        await session.run("x = 5")
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        os.kill(sandbox._workers[0]._launcher.pid, signal.SIGKILL)
        await asyncio.sleep(0.3)
        kept = []
        try:
            while True: kept.append(os.open("/dev/null", os.O_RDONLY))
        except OSError: pass
        for _ in range(2):
            try:
                raise SystemExit(await session.run("print(x)"))
            except SandboxError as error:
                assert error.retryable and error.hint, error
        for fd in kept: os.close(fd)
        print((await session.run("print(x)")).stdout)
asyncio.run(main())
"""


def test_a_host_without_descriptors_gets_a_sandbox_error_and_keeps_its_states() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOST_FULL.format(mode=MODE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout.strip() == "5", done.stderr[-2000:]


async def test_core_dumps_go_nowhere(box: IsolatedSandbox) -> None:
    result = await once(box, "import resource\nprint(resource.getrlimit(resource.RLIMIT_CORE))")
    assert result.stdout == "(1, 1)\n"
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 1, "the limit is the box's, not this process's"


async def test_a_lost_box_is_never_a_result(box: IsolatedSandbox) -> None:
    async with await box.open() as session:
        for limits in (HARSH, None):
            try:
                result = await session.run("import os\nos.closerange(3, 4)", limits)
            except SandboxDied:
                continue
            assert result.status is Status.DIED
