"""vLLM in this process: what the contract suite cannot ask of every engine. Most of it under `make test-vllm`."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from genprm.engines import Request, SamplingParams, VllmEngine, make_engine
from genprm.errors import EngineError, EngineUnavailable, MissingExtraError

# Hot, so that turns are long.
LONG = SamplingParams(temperature=2.0, max_tokens=900, seed=2)
SHORT = SamplingParams(temperature=0.0, max_tokens=4, seed=1, logprobs=2)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_a_missing_vllm_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtraError) as caught:
        make_engine("vllm", model="some/model")
    assert "genprm[vllm]" in caught.value.hint


@pytest.mark.vllm
async def test_a_model_that_is_not_there_is_reported_and_no_request_raises(tmp_path: Path) -> None:
    engine = VllmEngine(tmp_path / "nothing")
    with pytest.raises(EngineError) as caught:
        await engine.check()
    assert "nothing" in caught.value.message
    (found,) = await engine.generate([Request(prompt="x", params=SHORT)])
    await engine.aclose()
    assert isinstance(found.error, EngineError) and found.finish_reason == "error"


@pytest.mark.vllm
def test_one_engine_serves_several_loops_and_ends_what_is_open(by_heart_model: Path) -> None:
    engine = VllmEngine(by_heart_model, dtype="float32", enforce_eager=True)

    async def short() -> str:
        (found,) = await engine.generate([Request(prompt="1 + 1 = ", params=SHORT)])
        assert found.ok, found.error
        return found.text

    async def cancelled() -> None:
        requests = [Request(prompt="1", params=LONG, sample=n) for n in range(64)]
        task = asyncio.ensure_future(engine.generate(requests))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def closed() -> None:
        task = asyncio.ensure_future(
            engine.generate([Request(prompt="1", params=LONG, sample=n) for n in range(64)])
        )
        await asyncio.sleep(0.2)
        await engine.aclose()
        errors = [one.error for one in await task if one.error is not None]
        assert errors and all(isinstance(error, EngineUnavailable) for error in errors)
        (late,) = await engine.generate([Request(prompt="1", params=SHORT)])
        assert isinstance(late.error, EngineUnavailable)

    first = asyncio.run(short())
    assert asyncio.run(short()) == first
    asyncio.run(cancelled())
    assert asyncio.run(short()) == first
    asyncio.run(closed())
