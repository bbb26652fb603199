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
from genprm.errors import ConfigError, EngineError, EngineRequestError, EngineUnavailable
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


def problems(count: int, max_tokens: int = 4) -> list[Request]:
    params = SamplingParams(temperature=1.0, max_tokens=max_tokens, seed=7)
    return [Request(prompt=f"{number} + 4", params=params) for number in range(count)]


async def test_a_killed_copy_fails_the_requests_it_has_and_another_takes_its_place(tiny_model) -> None:
    async with ReplicatedEngine(tiny_model, replicas=1, batch_size=1, device="cpu") as copies:
        await copies.check()
        (replica,) = copies._copies.all
        under_way = asyncio.create_task(copies.generate(problems(8, max_tokens=400)))
        while not replica.load:
            await asyncio.sleep(0.01)
        assert replica.process.pid is not None
        os.kill(replica.process.pid, signal.SIGKILL)
        lost = await under_way
        assert len(lost) == 8
        assert all(isinstance(one.error, EngineUnavailable) for one in lost)
        assert {(one.usage.requests, one.usage.uncounted) for one in lost} == {(1, 1)}
        assert all(one.ok for one in await copies.generate(problems(8)))


async def test_a_dead_copy_gets_no_requests(tiny_model) -> None:
    """It would answer at once that it is gone, and so be the least busy one."""
    async with ReplicatedEngine(tiny_model, replicas=2, batch_size=8, device="cpu") as copies:
        await copies.check()
        dead, _ = copies._copies.all
        assert dead.process.pid is not None
        os.kill(dead.process.pid, signal.SIGKILL)
        while not dead.lost:
            await asyncio.sleep(0.01)
        found = [(await copies.generate([one]))[0] for one in problems(20)]
        assert all(one.ok for one in found)
        assert len(copies._copies.all) == 2
        assert dead not in copies._copies.all


async def test_a_prompt_that_is_no_text_is_an_error_of_its_own(tiny_model) -> None:
    """Half of a surrogate pair, for example; the requests beside it are answered."""
    half = Request(prompt="3 + \ud83d")
    async with ReplicatedEngine(tiny_model, replicas=1, device="cpu") as copies:
        found = await asyncio.wait_for(copies.generate([half, *problems(1)]), 60)
    with LocalEngine(tiny_model, device="cpu") as alone:
        found += await alone.generate([half, *problems(1)])
    for bad, good in (found[:2], found[2:]):
        assert isinstance(bad.error, EngineRequestError)
        assert "cannot read the prompt" in bad.error.message
        assert good.ok


async def test_a_request_that_cannot_be_sent_fails_alone(tiny_model) -> None:
    endless = SamplingParams(stop=(text for text in "ab"))  # type: ignore[arg-type]
    async with ReplicatedEngine(tiny_model, replicas=1, device="cpu") as copies:
        odd, *others = await asyncio.wait_for(
            asyncio.gather(
                copies.generate([Request(prompt="3 + 4", params=endless)]),
                *(copies.generate([one]) for one in problems(3)),
            ),
            60,
        )
    assert odd[0].error is not None and "cannot be sent" in odd[0].error.message
    assert all(found.ok for (found,) in others)


async def test_whatever_goes_wrong_in_a_copy_is_an_error_and_keeps_nobody_waiting(tiny_model) -> None:
    odd = Request(prompt="3 + 4", params=SamplingParams(max_tokens=4, stop=(5,)))  # type: ignore[arg-type]
    async with ReplicatedEngine(tiny_model, replicas=1, device="cpu") as copies:
        (found,) = await asyncio.wait_for(copies.generate([odd]), 60)
        assert isinstance(found.error, EngineError)
        assert "AttributeError" in found.error.message
        assert (found.usage.requests, found.usage.uncounted) == (1, 1)
        assert all(one.ok for one in await copies.generate(problems(2)))


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
        (replica,) = copies._copies.all
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
            for replica in copies._copies.all:
                status = Path(f"/proc/{replica.process.pid}/status").read_text()
                parents.add(int(status.split("PPid:")[1].split()[0]))
    (parent,) = parents
    assert parent != os.getpid()
    assert "libtorch" in Path(f"/proc/{parent}/maps").read_text()
