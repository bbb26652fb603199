"""Measures the verifier on one engine and prints one JSON object as its last line.

    python benchmarks/verifier.py [--engine local|llama|vllm|URL] [--model NAME_OR_PATH] [--items N] [--quick]

Three questions, in one run on one engine:

- how much faster are all paths at once than one path, one step, one request at a time? Both write the
  same texts from the same seeds; the serial rate is measured on the first items;
- how close does verification come to the engine's own rate? Every request that it made is sent again,
  all at once, without code and without waiting;
- how many tokens does adaptive voting save, and how many decisions does it change? Requests that the
  full run made are answered with the completions that it got, so that voting alone makes the difference,
  also on a server whose answers vary with what shares a batch; the engine makes the others.

The engine's prefix cache is emptied before each measurement (a server given by its URL keeps its own).
`engine_batch_gain` is the engine's own rate for all requests at once over its rate for the same requests
one at a time, both without code: no verifier can be faster than serial by much more than that.

The model is the verifier that `make quickstart` left, unless `--model` names another one: a directory, a
GGUF file for llama, or the name of a server's model.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine

from genprm.config import VerifyConfig
from genprm.engines import Completion, Engine, LlamaServer, Request, SamplingParams, make_engine
from genprm.engines._replicas.packing import Packed, pack_completion, unpack_completion
from genprm.errors import GenPRMError
from genprm.records import Usage, Verification, VerifyItem
from genprm.rewards import Verifier, judge_all
from genprm.rewards.genprm.path import PathContext, VerificationPath
from genprm.sandbox import IsolatedSandbox
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.worlds.arithmetic import generate_problems
from genprm.worlds.arithmetic.grammar import parse_problem
from genprm.worlds.arithmetic.writer import POLICY_HABITS, write_solution

VOTES = 8
SEED = 1
OPTIONS = {
    "profile": "compact",
    "votes": VOTES,
    "max_tokens": 160,
    "max_rounds": 2,
    "logprobs": 5,
    "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
}
# Requests in flight: enough to fill the engine's batch while some paths execute code.
CONCURRENCY = {"local": 512, "llama": 64, "vllm": 640, "http": 64}
LLAMA_SLOTS = 32
# Prompts are short and share most of their tokens: small blocks, and as many sequences as the cores can use.
VLLM_OPTIONS = {
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "max_num_batched_tokens": 8192,
    "max_num_seqs": 512,
}


class Remembering:
    """An engine that remembers its answers, and gives those that it knows again to equal requests."""

    def __init__(self, engine: Engine, known: dict[Request, Packed] | None = None) -> None:
        self.engine = engine
        self.known = known or {}
        # Packed, because the garbage collector would look at every token's object again and again.
        self.made: list[tuple[Request, Packed]] = []

    @property
    def name(self) -> str:
        return self.engine.name

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        new = [request for request in requests if request not in self.known] if self.known else requests
        done = await self.engine.generate(new) if new else []
        self.made += zip(new, map(pack_completion, done), strict=True)
        if not self.known:
            return done
        fresh = dict(zip(new, done, strict=True))
        return [
            fresh[request] if request in fresh else unpack_completion(self.known[request])
            for request in requests
        ]

    async def check(self) -> None:
        await self.engine.check()

    def describe(self) -> dict[str, Any]:
        return self.engine.describe()

    async def aclose(self) -> None:
        await self.engine.aclose()


class Target:
    """Makes engines of one kind, warm but with an empty prefix cache."""

    def __init__(self, kind: str, model: str | None) -> None:
        self.url = kind if "://" in kind else None
        self.kind = "http" if self.url else kind
        self.model = model
        self.concurrency = CONCURRENCY[self.kind]
        self._kept: Engine | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="genprm-bench-")

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        if self.kind == "llama":
            with LlamaServer(self._gguf(), slots=LLAMA_SLOTS, context=1024, threads=1) as server:
                engine = make_engine("http", base_urls=server.url, max_concurrency=LLAMA_SLOTS)
                await _warm(engine)
                yield engine
                await engine.aclose()
            return
        if self.kind == "local":
            options = {"device": "cpu", "deterministic": True, "batch_size": 128}
            engine = make_engine("replicated", model=self.model or trained_verifier(), **options)
            await _warm(engine)
            yield engine
            await engine.aclose()
            return
        # Starting vLLM takes half a minute, so one engine serves all measurements.
        if self._kept is None:
            self._kept = self._start()
            await _warm(self._kept)
        if self.kind == "vllm":
            await self._kept.reset_prefix_cache()  # type: ignore[attr-defined]
        yield self._kept

    async def aclose(self) -> None:
        self._folder.cleanup()
        if self._kept is not None:
            await self._kept.aclose()

    def _start(self) -> Engine:
        if self.kind == "vllm":
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
            return make_engine("vllm", model=self.model or trained_verifier(), **VLLM_OPTIONS)
        return make_engine("http", base_urls=self.url, model=self.model, max_concurrency=self.concurrency)

    def _gguf(self) -> Path:
        if self.model and self.model.endswith(".gguf"):
            return Path(self.model)
        from tiny_gguf import write_gguf

        target = Path(self._folder.name) / "verifier.gguf"
        if not target.exists():
            write_gguf(Path(self.model or trained_verifier()), target)
        return target


async def _warm(engine: Engine) -> None:
    await engine.check()
    params = SamplingParams(max_tokens=8, seed=0, logprobs=5)
    await engine.generate([Request(prompt="1 + 1 = ", params=params, sample=n) for n in range(16)])


@dataclass
class Run:
    """What one way of verifying took."""

    rows: list[Verification]
    seconds: float
    made: list[tuple[Request, Packed]]

    @property
    def tokens(self) -> int:
        return sum(row.usage.completion_tokens for row in self.rows)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


async def verify(
    target: Target,
    items: list[VerifyItem],
    known: dict[Request, Packed] | None = None,
    **changes: Any,
) -> Run:
    """Everything at once."""
    config = VerifyConfig.model_validate({**OPTIONS, **changes})
    async with target.engine() as engine, IsolatedSandbox(tier="plain") as sandbox:
        await (await sandbox.open()).run("pass")
        remembering = Remembering(engine, known)
        verifier = Verifier(remembering, sandbox, config, seed=SEED, concurrency=target.concurrency)
        begin = time.perf_counter()
        rows = await judge_all(verifier, items)
        return Run(rows, time.perf_counter() - begin, remembering.made)


async def serially(target: Target, items: list[VerifyItem]) -> tuple[int, float, list[Request]]:
    """Completion tokens and wall of one path after the other, one step and one request at a time."""
    config = VerifyConfig.model_validate(OPTIONS)
    async with target.engine() as engine, IsolatedSandbox(tier="plain") as sandbox:
        await (await sandbox.open()).run("pass")
        remembering = Remembering(engine)
        profile = load_profile(config.profile, VerifierProfile)
        context = PathContext(remembering, sandbox, profile, config, asyncio.Semaphore(1), SEED)
        tokens = 0
        begin = time.perf_counter()
        for item in items:
            for index in range(VOTES):
                path = VerificationPath(context, item.id, item.problem, index)
                for step in item.steps:
                    tokens += (await path.judge(step)).usage.completion_tokens
                await path.aclose()
        return tokens, time.perf_counter() - begin, [request for request, _ in remembering.made]


async def engine_rate(target: Target, requests: list[Request], *, at_once: bool) -> float:
    """Completion tokens per second of the engine alone."""
    async with target.engine() as engine:
        begin = time.perf_counter()
        # As calls of their own: the engine can start on the first ones while it prepares the others.
        calls = (engine.generate([request]) for request in requests)
        done = await asyncio.gather(*calls) if at_once else [await call for call in calls]
        seconds = time.perf_counter() - begin
    return sum(one.usage.completion_tokens for (one,) in done) / seconds


def trained_verifier() -> str:
    """The newest verifier that the quickstart trained."""
    found = Path("runs/quickstart/artifacts/train").glob("*/config.json")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise SystemExit("no trained verifier here: run `make quickstart` first, or give --model")
    return str(newest.parent)


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


def compare(full: Run, short: Run) -> dict[str, float]:
    """Share of step decisions that agree, and of tokens used."""
    pairs = [
        (one.judgement, other.judgement)
        for whole, part in zip(full.rows, short.rows, strict=True)
        for one, other in zip(whole.verdicts, part.verdicts, strict=True)
    ]
    return {
        "agreement": round(sum(one == other for one, other in pairs) / len(pairs), 4),
        "token_share": round(short.tokens / full.tokens, 4),
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    target = Target(options.engine, options.model)
    count = options.items or (24 if options.quick else 250)
    items = make_items(count)
    load_before = os.getloadavg()[0]
    try:
        full = await verify(target, items)
        alone = await engine_rate(target, [request for request, _ in full.made], at_once=True)
        serial_tokens, serial_seconds, serial_requests = await serially(
            target, items[: max(1, count // 40)]
        )
        one_by_one = await engine_rate(target, serial_requests, at_once=False)
        adaptive = {
            voting: compare(full, await verify(target, items, dict(full.made), voting=voting))
            for voting in ("exact", "sequential")
        }
    finally:
        await target.aclose()
    cost = sum((row.usage for row in full.rows), start=Usage())
    return {
        "engine": target.kind,
        "model": Path(options.model).name if options.model else "quickstart verifier",
        "votes": VOTES,
        "items": count,
        "speedup_over_serial": round(full.rate / (serial_tokens / serial_seconds), 2),
        "engine_utilisation": round(full.rate / alone, 3),
        "adaptive": adaptive,
        "tokens_per_second": round(full.rate, 1),
        "code_seconds_share": round(cost.code_seconds / (cost.code_seconds + cost.engine_seconds), 4),
        "engine_batch_gain": round(alone / one_by_one, 2),
        "failed_votes": sum(
            vote.status.value != "ok"
            for row in full.rows
            for verdict in row.verdicts
            for vote in verdict.votes
        ),
        "load_before": round(load_before, 2),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="local", help="local, llama, vllm, or the base URL of a server")
    parser.add_argument("--model", help="a checkpoint, a GGUF file, or the name of a server's model")
    parser.add_argument("--items", type=int, default=0, help="solutions to verify (250; 24 with --quick)")
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    options = parser.parse_args()
    if "://" not in options.engine and options.engine not in CONCURRENCY:
        parser.error(f"unknown engine '{options.engine}': local, llama, vllm, or a URL")
    try:
        found = asyncio.run(measure(options))
    except GenPRMError as error:
        parser.error(str(error))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
