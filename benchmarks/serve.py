"""Measures what the reward server adds to calling its reward, and prints one JSON object as its last line.

    python benchmarks/serve.py [--clients 200] [--seconds 60] [--solution-seconds 2] [--in-work N]
    python benchmarks/serve.py --cold-start

The reward takes a time that is known beforehand: each step waits as long as its text says, as a verifier waits for its
engine, and solutions have 1 to 12 steps and some hundred bytes to 20 kilobytes. So whatever comes on top is the server's:

1. a process calls the reward directly, as many solutions at once as there are clients;
2. an equal process serves it on loopback, and as many clients ask from a process of their own, each for its next
   solution as soon as the last one is answered.

Both take the same solutions in the same order. `p50_overhead_ms` and `p99_overhead_ms` are over the differences, solution
by solution, between the client's time and the direct call's. The server's bound on verifications in work is the number
of clients unless `--in-work` says otherwise: a smaller one makes requests wait for others' verifications, which the
reward would make them do as well, and `p50_overhead_ms` then shows that wait, not the server's work.

- `errors` are answers that are neither right nor an honest 429 (with `Retry-After`), and requests without an answer;
  `rejected` counts the 429s, which are asked again; `answered` equals `sent` when nothing was lost.
- `verifications_for_8_equal` is what 8 equal requests at once cost, on average over groups; it should be 1.
- `rss_growth` compares the server's memory in the last third of the time with that in the second third.
- `server_cpu_ms` and `client_cpu_ms` are processor time per request. Requests per second times `server_cpu_ms` is the
  share of its one core that the server needs; when it comes near to 1, requests wait for that core.

Clients start one after the other during the time of one solution, as they do when they have been asking for a while.

`--cold-start` measures from starting `genprm serve --model builtin:verifier` to its first answer.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from machine import machine

from genprm import ScriptedReward, ServeConfig, VerifyItem, judge_all
from genprm.serve.app import create_app
from genprm.serve.run import make_service, serve
from genprm.worlds.arithmetic.demo import demo_item

STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
PADDING = (40, 200, 600, 1600)
MEAN_STEPS = statistics.fmean(STEPS)
GROUPS, EQUAL = 25, 8
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def solution(number: int) -> tuple[str, list[str]]:
    """A problem and its steps; each number has its own."""
    drawn = random.Random(number)
    padding = "x" * drawn.choice(PADDING)
    steps = [
        f"Step {k}: {drawn.uniform(0.5, 1.5):.4f} {padding}" for k in range(1, drawn.choice(STEPS) + 1)
    ]
    return f"Problem {number}?", steps


def expected(text: str) -> float:
    """The reward of a step, so that an answer can be recognised."""
    return hashlib.sha256(text.encode()).digest()[0] / 255


def paced(solution_seconds: float, concurrency: int) -> ScriptedReward:
    """A reward that waits as long as each step says."""
    unit = solution_seconds / MEAN_STEPS

    async def judge(problem: str, steps: Sequence[str], index: int) -> float:
        await asyncio.sleep(unit * float(steps[index].split(" ", 3)[2]))
        return expected(steps[index])

    return ScriptedReward(judge, concurrency=concurrency)


# The processes beside the clients'


async def serve_paced(options: argparse.Namespace) -> None:
    config = ServeConfig(
        port=0, in_work=options.in_work or options.clients, queue=4 * options.clients, recent=256
    )
    service = make_service(config, paced(options.solution_seconds, 1))
    await serve(create_app(service, config), config, lambda url: print(url, flush=True))


async def call_directly(options: argparse.Namespace) -> None:
    """As many callers as clients, each taking the next solution; prints each solution's seconds."""
    reward = paced(options.solution_seconds, 1)
    numbers = iter(range(10**9))
    ends = time.monotonic() + options.seconds
    taken: dict[int, float] = {}

    async def caller(place: int) -> None:
        await asyncio.sleep(options.solution_seconds * place / options.clients)
        while time.monotonic() < ends:
            number = next(numbers)
            problem, steps = solution(number)
            began = time.perf_counter()
            await judge_all(reward, [VerifyItem(id=str(number), problem=problem, steps=tuple(steps))])
            taken[number] = time.perf_counter() - began

    await asyncio.gather(*map(caller, range(options.clients)))
    print(json.dumps(taken), flush=True)


@asynccontextmanager
async def beside(role: str, options: argparse.Namespace) -> AsyncIterator[asyncio.subprocess.Process]:
    """This program in another role, in a process of its own."""
    numbers = ("clients", "seconds", "solution_seconds", "in_work")
    flags = [
        text for name in numbers for text in (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--role", role, *flags, stdout=asyncio.subprocess.PIPE, limit=1 << 26
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


# The clients


@dataclass
class Tally:
    """What the clients saw."""

    sent: int = 0
    rejected: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    rss: list[int] = field(default_factory=list)


async def ask(
    http: aiohttp.ClientSession, url: str, number: int, problem: str, steps: list[str], tally: Tally
) -> None:
    """One solution, asked again after an honest 429."""
    tally.sent += 1
    while True:
        began = time.perf_counter()
        try:
            async with http.post(f"{url}/v1/verify", json={"problem": problem, "steps": steps}) as reply:
                answer = await reply.json()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            tally.errors.append(type(error).__name__)
            return
        if reply.status == 429 and "Retry-After" in reply.headers:
            tally.rejected += 1
            await asyncio.sleep(float(reply.headers["Retry-After"]))
            continue
        if reply.status != 200 or answer["rewards"] != [expected(step) for step in steps]:
            tally.errors.append(f"status {reply.status}")
        else:
            tally.seconds[number] = time.perf_counter() - began
        return


async def load(http: aiohttp.ClientSession, url: str, pid: int, options: argparse.Namespace) -> Tally:
    tally = Tally()
    numbers = iter(range(10**9))
    ends = time.monotonic() + options.seconds

    async def client(place: int) -> None:
        await asyncio.sleep(options.solution_seconds * place / options.clients)
        while time.monotonic() < ends:
            number = next(numbers)
            await ask(http, url, number, *solution(number), tally)

    async def weigh() -> None:
        while True:
            tally.rss.append(resident(pid))
            await asyncio.sleep(0.5)

    weighing = asyncio.create_task(weigh())
    await asyncio.gather(*map(client, range(options.clients)))
    weighing.cancel()
    return tally


async def equal_requests(http: aiohttp.ClientSession, url: str, tally: Tally) -> float:
    """Verifications per group of equal requests that come at once."""
    before = await counted(http, url)
    numbers = [10**9 + group for group in range(GROUPS) for _ in range(EQUAL)]
    await asyncio.gather(*(ask(http, url, number, *solution(number), tally) for number in numbers))
    return (await counted(http, url) - before) / GROUPS


async def counted(http: aiohttp.ClientSession, url: str) -> float:
    async with http.get(f"{url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("genprm_verifications_total "))


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / _CLOCK_TICKS


def growth(rss: Sequence[int]) -> float | None:
    third = len(rss) // 3
    if not third:
        return None
    return statistics.median(rss[2 * third :]) / statistics.median(rss[third : 2 * third]) - 1


def quantile(values: Iterator[float], share: float) -> float | None:
    known = sorted(values)
    return known[min(len(known) - 1, int(share * len(known)))] if known else None


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    load_before = os.getloadavg()[0]
    async with beside("direct", options) as process:
        direct = {int(number): seconds for number, seconds in json.loads(await first_line(process)).items()}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    async with (
        beside("server", options) as process,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
    ):
        url = await first_line(process)
        began, own = processor_seconds(process.pid), time.process_time()
        tally = await load(http, url, process.pid, options)
        served = max(1, len(tally.seconds))
        server_cpu = (processor_seconds(process.pid) - began) / served
        client_cpu = (time.process_time() - own) / served
        answered = len(tally.seconds)
        sent = tally.sent
        for_equal = await equal_requests(http, url, tally)
    pairs = [(seconds, direct[number]) for number, seconds in tally.seconds.items() if number in direct]

    def overhead(share: float) -> float | None:
        found = quantile((served - called for served, called in pairs), share)
        return None if found is None else round(1000 * found, 2)

    return {
        "clients": options.clients,
        "in_work": options.in_work or options.clients,
        "sent": sent,
        "answered": answered,
        "errors": len(tally.errors),
        "error_kinds": sorted(set(tally.errors)),
        "rejected": tally.rejected,
        "requests_per_second": round(answered / options.seconds, 1),
        "p50_direct_ms": round(1000 * (quantile((called for _, called in pairs), 0.5) or 0), 1),
        "p50_overhead_ms": overhead(0.5),
        "p99_overhead_ms": overhead(0.99),
        "verifications_for_8_equal": for_equal,
        "rss_growth": growth(tally.rss),
        "rss_mb": round(tally.rss[-1] / 1e6, 1) if tally.rss else None,
        "server_cpu_ms": round(1000 * server_cpu, 2),
        "client_cpu_ms": round(1000 * client_cpu, 2),
        "load_before": load_before,
    }


async def cold_start() -> dict[str, Any]:
    """Seconds from starting the command to listening, and to the first answer."""
    began = time.monotonic()
    command = ("-m", "genprm", "serve", "--model", "builtin:verifier", "--port", "0")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        url = (await process.stderr.readline()).decode().strip().removeprefix("Listening on ")
        listening = time.monotonic() - began
        item = demo_item()
        body = {"problem": item.problem, "steps": item.steps}
        async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/verify", json=body) as reply:
            answer = await reply.json()
        answered = time.monotonic() - began
        assert answer["first_error"] == 1, answer
    finally:
        process.terminate()
        await process.wait()
    return {"seconds_to_listening": round(listening, 2), "seconds_to_first_answer": round(answered, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of load, and of direct calls before it"
    )
    parser.add_argument(
        "--solution-seconds", type=float, default=2.0, help="that a solution takes on average"
    )
    parser.add_argument("--in-work", type=int, default=0, help="the server's bound (as many as clients)")
    parser.add_argument("--cold-start", action="store_true", help="measure that alone")
    parser.add_argument("--role", choices=("server", "direct"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        asyncio.run(serve_paced(options) if options.role == "server" else call_directly(options))
        return
    found = asyncio.run(cold_start() if options.cold_start else measure(options))
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    print(json.dumps({**found, "machine": machine(), "date": date}))


if __name__ == "__main__":
    main()
