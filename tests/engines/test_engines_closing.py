"""How engines are closed: as context managers of both kinds, and by a plain call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest
from servers import Loopback, ok

from genprm.aio import run_sync
from genprm.engines import CachedEngine, EngineBase, HttpEngine, Request, SamplingParams, ScriptedEngine
from genprm.engines.table import ENGINES, engine_class
from genprm.errors import EngineUnavailable

REQUEST = Request(prompt="3 + 4", params=SamplingParams(max_tokens=3))


def answer(method: str, path: str, body: dict) -> tuple:
    if path == "/v1/models":
        return ok({"data": [{"id": "model", "owned_by": "vllm"}]})
    return ok({"choices": [{"text": "7", "finish_reason": "stop"}], "usage": {}})


@pytest.fixture
def server():
    made = Loopback(answer)
    yield made
    made.close()


def test_every_engine_has_the_common_base():
    classes = [engine_class(kind) for kind in ("http", "local", "replicated", "scripted", "vllm")]
    assert {kind for kind in ENGINES if isinstance(engine_class(kind), type)} == {
        one.kind for one in classes
    }
    assert all(issubclass(one, EngineBase) for one in (*classes, CachedEngine))


def make(kind: str, request: pytest.FixtureRequest):
    if kind == "http":
        return HttpEngine(request.getfixturevalue("server").url)
    if kind == "cached":
        folder = request.getfixturevalue("tmp_path")
        return CachedEngine(ScriptedEngine(lambda _: "7"), folder / "cache.sqlite")
    if kind == "local":
        pytest.importorskip("torch")
        from genprm.engines import LocalEngine

        return LocalEngine(request.getfixturevalue("tiny_model"), threads=1)
    return ScriptedEngine(lambda _: "7")


KINDS = ["http", "cached", "local", "scripted"]


@pytest.mark.parametrize("kind", KINDS)
def test_with_closes_an_engine_that_several_calls_used(kind, request):
    with make(kind, request) as engine:
        assert run_sync(engine.generate([REQUEST]))[0].ok
        assert run_sync(engine.generate([REQUEST]))[0].ok
    engine.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_async_with_closes_an_engine(kind, request):
    async with make(kind, request) as engine:
        assert (await engine.generate([REQUEST]))[0].ok
    await engine.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_notebook_may_mix_both_ways(kind, request):
    """Used on the notebook's own loop, closed by a synchronous call that blocks it."""
    with make(kind, request) as engine:
        assert (await engine.generate([REQUEST]))[0].ok
        assert run_sync(engine.generate([REQUEST]))[0].ok
        assert (await engine.generate([REQUEST]))[0].ok
    await asyncio.sleep(0)


async def test_a_closed_replicated_engine_says_so(tiny_model):
    pytest.importorskip("torch")
    from genprm.engines import ReplicatedEngine

    engine = ReplicatedEngine(tiny_model, replicas=1)
    await engine.aclose()
    (found,) = await engine.generate([REQUEST])
    assert isinstance(found.error, EngineUnavailable)
    with pytest.raises(EngineUnavailable):
        await engine.check()


def test_an_http_engine_leaves_no_open_sockets(server):
    """Every order of use and closing, in a process that reports what is left open."""
    code = f"""
        import asyncio, gc
        from genprm.aio import run_sync
        from genprm.engines import HttpEngine, Request

        url, requests = {server.url!r}, [Request(prompt="3 + 4")]

        with HttpEngine(url) as engine:
            assert run_sync(engine.generate(requests))[0].ok
            assert run_sync(engine.generate(requests))[0].ok

        engine = HttpEngine(url)
        assert run_sync(engine.generate(requests))[0].ok
        engine.close()

        async def inside():
            async with HttpEngine(url) as engine:
                assert (await engine.generate(requests))[0].ok

        async def mixed():
            with HttpEngine(url) as engine:
                assert (await engine.generate(requests))[0].ok
                assert run_sync(engine.generate(requests))[0].ok
                assert (await engine.generate(requests))[0].ok
            # What was used on this loop is closed on it, once the synchronous close no longer blocks it.
            await asyncio.sleep(0)
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0)

        asyncio.run(inside())
        asyncio.run(mixed())
        gc.collect()
    """
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr, done.stderr
