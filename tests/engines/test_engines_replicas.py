"""Copies of a local model in processes of their own."""

from __future__ import annotations

import os
import signal

import pytest

from genprm.engines import LocalEngine, ReplicatedEngine, Request, SamplingParams
from genprm.errors import ConfigError, EngineError, EngineUnavailable
from genprm.records import ChatMessage

pytest.importorskip("torch")


def requests(count: int, samples: int = 3) -> list[Request]:
    params = SamplingParams(temperature=1.0, max_tokens=12, seed=7, logprobs=2)
    return [
        Request(
            messages=(ChatMessage(role="user", content=f"problem {index}"),), params=params, sample=sample
        )
        for index in range(count)
        for sample in range(samples)
    ]


async def test_copies_give_what_one_engine_gives(tiny_model) -> None:
    options = {"batch_size": 8, "deterministic": True, "device": "cpu"}
    alone = LocalEngine(tiny_model, threads=1, **options)
    copies = ReplicatedEngine(str(tiny_model), replicas=2, **options)
    try:
        expected = await alone.generate(requests(6))
        found = await copies.generate(requests(6))
    finally:
        await alone.aclose()
        await copies.aclose()
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.tokens for one in found] == [one.tokens for one in expected]


async def test_a_killed_copy_fails_its_requests_and_loses_none(tiny_model) -> None:
    copies = ReplicatedEngine(str(tiny_model), replicas=1, batch_size=8)
    try:
        await copies.check()
        (copy,) = copies._copies
        assert copy._process.pid is not None
        os.kill(copy._process.pid, signal.SIGKILL)
        found = await copies.generate(requests(2))
    finally:
        await copies.aclose()
    assert len(found) == 6
    assert all(isinstance(one.error, EngineUnavailable) for one in found)


async def test_a_missing_model_is_told_by_check(tmp_path) -> None:
    copies = ReplicatedEngine(str(tmp_path / "absent"), replicas=1)
    try:
        with pytest.raises(EngineError, match="absent"):
            await copies.check()
    finally:
        await copies.aclose()


def test_mistaken_options_are_named() -> None:
    with pytest.raises(ConfigError, match="bath_size"):
        ReplicatedEngine("model", bath_size=3)
    with pytest.raises(ConfigError, match="replicas"):
        ReplicatedEngine("model", replicas=0)
