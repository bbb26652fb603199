"""Measures the sandbox and prints one JSON object as its last line.

    python benchmarks/sandbox.py [--quick] [--snippets N] [--tiers plain,numpy]

Every snippet runs in a session of its own, as the comparison with a cold subprocess demands. Rates are
walls of a saturated sandbox (one box and one execution a core) divided by the cores. Where the machine
is busy with other work they come out low; `*_by_cpu` is what the CPU time used would allow on an idle
core. `cpu_ms` is the CPU time of a trivial snippet over all processes, the host's included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from genprm.sandbox import IsolatedSandbox, IsolatedSession, Limits
from genprm.sandbox.box.tiers import TIERS

TRIVIAL = "print(1 + 1)"
# The check of one step: the roots that it names, and the factors that it writes.
SYMPY = """
from sympy import symbols, solve, expand, Rational
x = symbols('x')
equation = x**2 - 7*x + 12
roots = solve(equation, x)
print("roots:", roots, "as claimed:", set(roots) == {3, 4})
print("factors:", expand((x - 3) * (x - 4)) == equation, Rational(3, 4) + Rational(1, 6))
"""
COLD_IMPORTS = "import sympy, numpy\n"
TICK = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))


def tree_cpu(root: int) -> float:
    """CPU seconds of a process and all its descendants, those that were waited for included."""
    total, todo = 0.0, [root]
    while todo:
        pid = todo.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            todo += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            continue
        # A session's processes that are already collected count with the process that collected them.
        total += sum(int(field) for field in fields[11:15]) / TICK
    return total


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def one(sandbox: IsolatedSandbox, code: str) -> float:
    begin = time.perf_counter()
    session = await sandbox.open()
    result = await session.run(code)
    await session.aclose()
    if result.status != "ok":
        raise SystemExit(f"the benchmark's snippet failed: {result}")
    return (time.perf_counter() - begin) * 1e3


async def rate(sandbox: IsolatedSandbox, code: str, count: int) -> dict[str, float]:
    """Snippets a minute per core, with the sandbox saturated, and CPU milliseconds per snippet."""
    await asyncio.gather(*(one(sandbox, code) for _ in range(CORES * 3)))
    pids = [worker._launcher.pid for worker in sandbox._workers]
    queue = iter(range(count))

    async def client() -> None:
        for _ in queue:
            await one(sandbox, code)

    cpu, begin = sum(map(tree_cpu, pids)) + time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CORES * 2)))
    wall = time.perf_counter() - begin
    cpu = sum(map(tree_cpu, pids)) + time.process_time() - cpu
    return {"per_minute_per_core": 60 * count / wall / CORES, "cpu_ms": cpu / count * 1e3}


async def measure_tier(tier: str, count: int) -> dict[str, float | None]:
    async with IsolatedSandbox(tier) as sandbox:
        trivial = await rate(sandbox, TRIVIAL, count)
        real = await rate(sandbox, SYMPY, max(20, count // 4)) if tier != "plain" else None
        latencies = [await one(sandbox, TRIVIAL) for _ in range(count)]
    return {
        "trivial_per_minute_per_core": round(trivial["per_minute_per_core"]),
        "sympy_per_minute_per_core": round(real["per_minute_per_core"]) if real else None,
        "trivial_per_minute_by_cpu": round(60e3 / trivial["cpu_ms"]),
        "sympy_per_minute_by_cpu": round(60e3 / real["cpu_ms"]) if real else None,
        "cpu_ms": round(trivial["cpu_ms"], 2),
        "sympy_cpu_ms": round(real["cpu_ms"], 2) if real else None,
        "p50_ms": round(statistics.median(latencies), 2),
        "p99_ms": round(percentile(latencies, 0.99), 2),
    }


def in_process(code: str, count: int) -> float:
    """Milliseconds of `exec` in this process, packages already imported."""
    with contextlib.redirect_stdout(io.StringIO()):
        exec(COLD_IMPORTS, {})
        exec(code, {})
        begin = time.perf_counter()
        for _ in range(count):
            exec(code, {})
        return (time.perf_counter() - begin) / count * 1e3


def cold(code: str, count: int) -> tuple[float, float]:
    """Wall and CPU milliseconds of a new interpreter for each snippet, imports included."""
    before, begin = os.times(), time.perf_counter()
    for _ in range(count):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-c", COLD_IMPORTS + code], check=True, capture_output=True, env=environment
        )
    wall, after = time.perf_counter() - begin, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall / count * 1e3, cpu / count * 1e3


def private_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in text if line.startswith("Private_Dirty")) / 1024


def descendants(root: int) -> list[int]:
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        try:
            children = [
                int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            ]
        except FileNotFoundError:
            continue
        found += children
        todo += children
    return found


async def timed(action: Any, count: int) -> list[float]:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        await action()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


async def measure_sessions(count: int) -> dict[str, float]:
    """Costs of opening, branching and killing, and the memory of a snapshot; numpy tier, one box."""
    async with IsolatedSandbox("numpy", workers=1) as sandbox:
        session = await sandbox.open()
        await session.run(SYMPY)

        async def open_close() -> None:
            async with await sandbox.open() as fresh:
                await fresh.run("pass")

        async def branch() -> None:
            async with session.fork() as copy:
                await copy.run("pass")

        opened = await timed(open_close, count)
        branched = await timed(branch, count)
        launcher = sandbox._workers[0]._launcher.pid
        before = set(descendants(launcher))
        sessions: list[IsolatedSession] = []
        for _ in range(10):
            one_more = session.fork()
            await one_more.run("x = 1")
            sessions.append(one_more)
        memory = [private_mb(pid) for pid in set(descendants(launcher)) - before]
        kills = []
        for one_more in sessions:
            pids = set(descendants(launcher))
            begin = time.perf_counter()
            await one_more.aclose()
            await ended(pids)
            kills.append((time.perf_counter() - begin) * 1e3)
            await session.fork().run("pass")
        overruns = []
        limits = Limits(soft_seconds=0.2, hard_seconds=0.3)
        for _ in range(10):
            # One long call into C, which no signal handler can interrupt.
            result = await session.run("sum(range(10**12))", limits)
            overruns.append(result.wall_seconds * 1e3 - 300)
    return {
        "session_open_ms": round(statistics.median(opened), 2),
        "branch_ms": round(statistics.median(branched), 2),
        "kill_ms": round(max(kills), 2),
        "hard_timeout_overrun_ms": round(max(overruns), 2),
        "snapshot_mb": round(max(memory), 2),
    }


async def ended(pids: set[int]) -> None:
    """Wait until one of the processes, which are not this one's children, has ended."""
    while True:
        if any(state(pid) in "ZX" for pid in pids):
            return
        await asyncio.sleep(0.0005)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the snippets")
    parser.add_argument("--snippets", type=int, default=1000, help="trivial snippets a tier")
    parser.add_argument("--tiers", default="plain,sympy,numpy,scipy")
    options = parser.parse_args()
    tiers = options.tiers.split(",")
    if unknown := set(tiers) - set(TIERS):
        parser.error(f"unknown tiers {sorted(unknown)}; there are {', '.join(TIERS)}")
    count = options.snippets // 10 if options.quick else options.snippets
    load = os.getloadavg()[0]
    async with IsolatedSandbox("plain", workers=1) as sandbox:
        level = sandbox.report.level
    measured = {tier: await measure_tier(tier, count) for tier in tiers}
    report: dict[str, Any] = {"level": level, "tiers": measured}
    report |= await measure_sessions(max(10, count // 10))
    report["in_process_ms"] = {
        "trivial": round(in_process(TRIVIAL, 200), 4),
        "sympy": round(in_process(SYMPY, 20), 2),
    }
    runs = 3 if options.quick else 10
    cold_trivial, cold_sympy = cold(TRIVIAL, runs), cold(SYMPY, runs)
    report["cold_subprocess_ms"] = {"trivial": round(cold_trivial[0], 1), "sympy": round(cold_sympy[0], 1)}
    report["cold_subprocess_cpu_ms"] = {
        "trivial": round(cold_trivial[1], 1),
        "sympy": round(cold_sympy[1], 1),
    }
    numpy = measured.get("numpy")
    if numpy:
        report["speedup_over_cold_subprocess"] = {
            "trivial": round(cold_trivial[1] / numpy["cpu_ms"], 1),
            "sympy": round(cold_sympy[1] / numpy["sympy_cpu_ms"], 1),
        }
    report["machine"] = {
        "cores": CORES,
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(load, 2),
    }
    report["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
