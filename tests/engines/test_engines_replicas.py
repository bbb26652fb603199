"""Copies of a local model in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genprm.aio import run_sync
from genprm.engines import LocalEngine, ReplicatedEngine, Request, SamplingParams
from genprm.errors import ConfigError, EngineError, EngineUnavailable
from genprm.records import ChatMessage

pytest.importorskip("torch")

EXACT = {"batch_size": 8, "deterministic": True, "device": "cpu"}


def requests(count: int, samples: int = 3) -> list[Request]:
    params = SamplingParams(temperature=1.0, max_tokens=12, seed=7, logprobs=2)
    return [
        Request(
            messages=(ChatMessage(role="user", content=f"problem {index}"),), params=params, sample=sample
        )
        for index in range(count)
        for sample in range(samples)
    ]


@pytest.fixture(scope="module")
def expected(tiny_model):
    """What one engine in this process gives."""
    with LocalEngine(tiny_model, threads=1, **EXACT) as alone:
        return run_sync(alone.generate(requests(6)))


@pytest.mark.parametrize("replicas", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
async def test_any_number_of_copies_gives_what_one_engine_gives(tiny_model, expected, replicas) -> None:
    async with ReplicatedEngine(tiny_model, replicas=replicas, **EXACT) as copies:
        found = await copies.generate(requests(6))
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.tokens for one in found] == [one.tokens for one in expected]


def test_copies_serve_several_loops_and_threads(tiny_model, expected) -> None:
    """Also loops that end while the processes live on."""
    wanted = [one.text for one in expected]
    with ReplicatedEngine(tiny_model, replicas=1, **EXACT) as copies:

        def texts(run) -> list[str]:
            return [one.text for one in run(copies.generate(requests(6)))]

        assert texts(asyncio.run) == wanted
        assert texts(asyncio.run) == wanted
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(texts, [run_sync, asyncio.run, run_sync, asyncio.run]))
    assert found == [wanted] * 4


async def test_a_killed_copy_fails_its_requests_and_loses_none(tiny_model) -> None:
    copies = ReplicatedEngine(str(tiny_model), replicas=1, batch_size=8)
    try:
        await copies.check()
        (replica,) = copies._replicas
        assert replica.process.pid is not None
        os.kill(replica.process.pid, signal.SIGKILL)
        found = await copies.generate(requests(2))
    finally:
        await copies.aclose()
    assert len(found) == 6
    assert all(isinstance(one.error, EngineUnavailable) for one in found)


async def test_cancelled_requests_end_in_the_process_too(tiny_model) -> None:
    """The copy answers what comes next at once, and an answer that crosses a cancellation changes nothing."""
    params = SamplingParams(temperature=1.0, max_tokens=120, seed=7)
    many = [Request(prompt="3 + 4", params=params, sample=sample) for sample in range(64)]
    (short,) = requests(1, samples=1)
    async with ReplicatedEngine(tiny_model, replicas=1, batch_size=1, device="cpu") as copies:
        await copies.check()
        began = time.perf_counter()
        await copies.generate(many[:4])
        quarter = (time.perf_counter() - began) * len(many) / 16
        for wait in (0.0, 0.05, 0.2):
            abandoned = asyncio.create_task(copies.generate(many))
            await asyncio.sleep(wait)
            abandoned.cancel()
            with pytest.raises(asyncio.CancelledError):
                await abandoned
        began = time.perf_counter()
        (done,) = await copies.generate([short])
        assert done.ok
        assert time.perf_counter() - began < quarter
        (replica,) = copies._replicas
        assert (replica.load, replica._waiting) == (0, {})


async def test_check_names_a_missing_model(tmp_path) -> None:
    copies = ReplicatedEngine(str(tmp_path / "absent"), replicas=1)
    try:
        with pytest.raises(EngineError, match="absent"):
            await copies.check()
    finally:
        await copies.aclose()


def test_mistaken_options_are_named() -> None:
    with pytest.raises(ConfigError, match="bath_size"):
        ReplicatedEngine("model", bath_size=3)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every copy imports torch by itself")
async def test_all_copies_are_forks_of_one_process_that_imported_torch(tiny_model) -> None:
    parents = set()
    for _ in range(2):
        async with ReplicatedEngine(tiny_model, replicas=2, **EXACT) as copies:
            await copies.check()
            for replica in copies._replicas:
                status = Path(f"/proc/{replica.process.pid}/status").read_text()
                parents.add(int(status.split("PPid:")[1].split()[0]))
    (parent,) = parents
    assert parent != os.getpid()
    assert "libtorch" in Path(f"/proc/{parent}/maps").read_text()
