"""What stages run on is made once, shared, and closed whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genprm.config import EngineConfig, RunConfig, VerifyConfig
from genprm.engines import Request, ScriptedEngine, engine_identity, register_engine
from genprm.errors import ConfigError, EngineUnavailable, StoreError
from genprm.identity import content_key
from genprm.runs import Resources

made: Counter[str] = Counter()
closed: Counter[str] = Counter()
failures: list[EngineUnavailable] = []


class Watched(ScriptedEngine):
    """An engine that counts, and whose check can fail or hang."""

    def __init__(self, name: str = "a") -> None:
        super().__init__(lambda request: "Yes", name=name)
        made[name] += 1
        self.label = name

    async def check(self) -> None:
        if failures:
            raise failures.pop()
        if self.label == "slow":
            await asyncio.sleep(60)

    async def aclose(self) -> None:
        closed[self.label] += 1


def engine(name: str = "a", **more: Any) -> EngineConfig:
    return EngineConfig(kind="watched", options={"name": name}, **more)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register_engine("watched", f"{__name__}:Watched")
    made.clear()
    closed.clear()
    failures.clear()
    yield


async def test_equal_configs_share_one_engine_and_it_is_closed_once() -> None:
    async with Resources(RunConfig()) as resources:
        first, second, other = await asyncio.gather(
            resources.engine(engine()), resources.engine(engine()), resources.engine(engine("b"))
        )
        assert first is second
        assert other is not first
    assert made == closed == {"a": 1, "b": 1}


async def test_a_budget_beyond_a_folders_context_is_named_before_the_model_is_loaded(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    config = EngineConfig(kind="watched", options={"model": str(tmp_path)})
    async with Resources(RunConfig()) as resources:
        with pytest.raises(ConfigError, match=r"verify\.max_tokens is 512, but the context"):
            await resources.engine(config, ("verify.max_tokens", 512))
    assert not made


async def test_an_engine_whose_cache_is_damaged_is_closed(tmp_path: Path) -> None:
    cached = engine(cache=True)
    cache = tmp_path / content_key(engine_identity(cached)) / "cache.sqlite"
    cache.parent.mkdir()
    cache.write_text("no database at all, but a text that is long enough to be one")
    async with Resources(RunConfig(), tmp_path) as resources:
        with pytest.raises(StoreError, match="cannot open the completion cache"):
            await resources.engine(cached)
        assert closed == {"a": 1}


async def test_a_failed_engine_is_closed_and_made_anew_when_asked_for_again() -> None:
    failures.append(EngineUnavailable("not yet"))
    async with Resources(RunConfig()) as resources:
        several = await asyncio.gather(
            *(resources.engine(engine()) for _ in range(3)), return_exceptions=True
        )
        assert [type(one) for one in several] == [EngineUnavailable] * 3
        assert closed == {"a": 1}
        await resources.engine(engine())
    assert made == closed == {"a": 2}


async def test_a_waiter_that_gives_up_leaves_the_engine_to_the_others() -> None:
    async with Resources(RunConfig()) as resources:
        one = asyncio.create_task(resources.engine(engine()))
        other = asyncio.create_task(resources.engine(engine()))
        await asyncio.sleep(0)
        one.cancel()
        assert (await other).name == "scripted:a"
    assert made == closed == {"a": 1}


async def test_what_is_still_being_made_at_the_end_is_not_waited_for() -> None:
    async with Resources(RunConfig()) as resources:
        task = asyncio.create_task(resources.engine(engine("slow")))
        while not made:
            await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert made == closed == {"slow": 1}


async def test_a_released_engine_gives_its_memory_back_and_may_come_again() -> None:
    async with Resources(RunConfig()) as resources:
        await resources.engine(engine())
        await resources.release(engine())
        assert closed == {"a": 1}
        await resources.release(engine("never made"))
        await resources.engine(engine())
    assert made == closed == {"a": 2}


async def test_all_users_of_an_engine_share_its_bound() -> None:
    async with Resources(RunConfig(concurrency=2)) as resources:
        gate = await resources.engine(engine())
        answers = await asyncio.gather(*(gate.generate([Request(prompt="p")]) for _ in range(6)))
        assert [answer.text for (answer,) in answers] == ["Yes"] * 6
        assert gate is await resources.engine(engine())


async def test_completions_are_cached_in_the_folder_that_is_given(tmp_path: Path) -> None:
    request = Request(prompt="p")
    for _ in range(2):
        async with Resources(RunConfig(), tmp_path / "completions") as resources:
            cached = await resources.engine(engine(cache=True))
            await cached.generate([request])
            facts = cached.describe()
    assert facts["cache"] == {"hits": 1, "misses": 0}
    async with Resources(RunConfig(), tmp_path / "completions") as resources:
        assert "cache" not in (await resources.engine(engine())).describe()
    async with Resources(RunConfig()) as resources:
        assert "cache" not in (await resources.engine(engine(cache=True))).describe()


async def test_equal_verifiers_are_one_and_only_executing_ones_have_a_sandbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_sandbox(*_: Any) -> Any:
        raise AssertionError("no code runs here")

    monkeypatch.setattr("genprm.runs.resources.make_sandbox", no_sandbox)
    quiet = VerifyConfig(components="cot")
    async with Resources(RunConfig()) as resources:
        first = await resources.verifier(engine(), quiet, 0)
        assert first is await resources.verifier(engine(), quiet, 0)
        assert first is not await resources.verifier(engine(), quiet, 1)
        with pytest.raises(AssertionError, match="no code runs here"):
            await resources.verifier(engine(), VerifyConfig(), 0)
    assert made == closed == {"a": 1}
