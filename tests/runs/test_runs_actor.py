"""An actor by itself, in this process: what it refuses, what it reports, when it stops writing. And addresses."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_chain import Notes, chain, execute, local, problems, rows_of

from genprm.config import EngineConfig, ExecutorConfig, RolesConfig, RunConfig
from genprm.errors import ClusterError, ConfigError, GenPRMError, MissingExtraError, StoreError
from genprm.runs import Chain, Shard, run_pipeline
from genprm.runs.cluster import actor as module
from genprm.runs.cluster.actor import ShardActor
from genprm.runs.cluster.connection import _check_connection, check_cluster
from genprm.runs.cluster.messages import Computed, Event, Failed, Judged, Led, Order, Ready, Reused
from genprm.runs.stages.problems import ProblemsStage
from genprm.store import Mandate, RunStore


@pytest.fixture
def work(tmp_path: Path) -> Chain:
    given = chain(Notes.make(tmp_path / "notes"))
    return Chain(given.name, (ProblemsStage(), *given.stages))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore(tmp_path / "run", config="one config") as opened:
        yield opened


@pytest.fixture
def mandate(store: RunStore) -> Iterator[Mandate]:
    with store.mandate() as held:
        yield held


@pytest.fixture
def order(store: RunStore, mandate: Mandate, work: Chain) -> Order:
    return Order(
        actor="one",
        chain=work,
        decides={stage.name: stage.decides().digest() for stage in work.stages},
        config=RunConfig(),
        folder=Path.cwd(),
        run=store.path,
        mandate=mandate.path,
        mirror=None,
        format="jsonl",
    )


async def lead(actor: ShardActor, number: int = 0) -> list[Event]:
    batch = tuple(problems(10)[3 * number : 3 * number + 3])
    return [event async for event in actor.lead(Shard(number, batch), frozenset(), second_pass=False)]


async def test_every_stage_is_reported_as_it_is_done(order: Order, work: Chain) -> None:
    actor = ShardActor()
    assert isinstance(await actor.begin(order), Ready)
    names = [stage.name for stage in work.stages]
    first = await lead(actor)
    assert [event.stage for event in first if isinstance(event, Judged)] == names
    assert [(event.stage, event.problems) for event in first if isinstance(event, Computed)] == [
        (name, 3) for name in names
    ]
    assert first[-1] == Led(settled=True)
    second = await lead(actor)
    assert [event.stage for event in second if isinstance(event, Reused)] == names
    assert second[-1] == Led(settled=True)
    await actor.close()


async def test_an_actor_whose_mandate_was_revoked_writes_nothing(order: Order, mandate: Mandate) -> None:
    actor = ShardActor()
    await actor.begin(order)
    await lead(actor)
    mandate.revoke("another")
    assert (await lead(actor, 1))[-1] == Led(settled=True)
    before = sorted(order.run.rglob("0*"))
    mandate.revoke("one")
    end = (await lead(actor, 2))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.error, StoreError)
    assert "taken for dead" in end.error.message
    assert sorted(order.run.rglob("0*")) == before
    await actor.close()


async def test_an_actor_whose_driver_has_ended_writes_nothing(store: RunStore, order: Order) -> None:
    actor = ShardActor()
    with store.mandate() as ended:
        await actor.begin(replace(order, mandate=ended.path))
    end = (await lead(actor))[-1]
    assert isinstance(end, Failed)
    assert "the driver has ended" in end.error.message
    assert not list(order.run.rglob("0*"))
    await actor.close()


async def test_a_node_that_does_not_see_the_run_directory(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.1)
    elsewhere = replace(
        order, run=tmp_path / "elsewhere", mandate=tmp_path / "elsewhere" / "leases" / "m.lock"
    )
    error = await ShardActor().begin(elsewhere)
    assert isinstance(error, ClusterError)
    assert f"does not see the run directory {tmp_path / 'elsewhere'}" in error.message
    assert "same path" in error.hint


async def test_a_node_that_would_make_other_rows(order: Order) -> None:
    error = await ShardActor().begin(replace(order, decides=order.decides | {"right": "another"}))
    assert isinstance(error, ConfigError)
    assert "other rows in the stage 'right'" in error.message


async def test_an_actor_and_this_process_write_the_same(order: Order, work: Chain, tmp_path: Path) -> None:
    actor = ShardActor()
    await actor.begin(order)
    for number in range(4):
        await lead(actor, number)
    await actor.close()
    given = Chain(work.name, work.stages[1:])
    calls = Notes(tmp_path / "notes").calls()
    await execute(local, order.run, given, problems(10))
    assert Notes(tmp_path / "notes").calls() == calls, "a local run takes over what an actor finished"
    await execute(local, tmp_path / "other", given, problems(10))
    assert rows_of(order.run) == rows_of(tmp_path / "other")


# ---------------------------------------------------------------- before anything is begun


async def refused(folder: Path, roles: RolesConfig | None = None, **executor: object) -> GenPRMError:
    config = RunConfig(
        problems={"source": "arithmetic", "limit": 1},
        roles=roles or RolesConfig(),
        executor=ExecutorConfig(kind="ray", **executor),  # type: ignore[arg-type]
    )
    with pytest.raises(GenPRMError) as caught:
        await run_pipeline(config, folder / "run", until="chats")
    assert not (folder / "run").exists()
    return caught.value


async def test_without_ray_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    error = await refused(tmp_path)
    assert isinstance(error, MissingExtraError)
    assert error.hint == "pip install 'genprm[ray]'"


async def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        error = await refused(tmp_path, address=address)
    assert isinstance(error, ClusterError)
    assert f"no Ray cluster can be reached at {address}" in error.message
    assert "ray start --head" in error.hint


@pytest.mark.parametrize(
    ("address", "said"),
    [("ray://head:10001", "Ray client"), ("head", "not HOST:PORT"), ("head:x", "not HOST:PORT")],
)
async def test_an_address_of_another_kind(tmp_path: Path, address: str, said: str) -> None:
    error = await refused(tmp_path, address=address)
    assert isinstance(error, ConfigError)
    assert said in error.message


async def test_an_address_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert (await refused(tmp_path)).message.startswith("RAY_ADDRESS: 'http://head:8265'")


def test_a_connected_process_does_not_look_for_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(executor=ExecutorConfig(kind="ray"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ClusterError, match="no Ray cluster can be reached"):
            check_cluster(config)
        monkeypatch.setattr("ray.is_initialized", lambda: True)
        check_cluster(config)


async def test_a_cache_of_completions_cannot_be_shared(tmp_path: Path) -> None:
    error = await refused(tmp_path, roles=RolesConfig(teacher=EngineConfig(cache=True)))
    assert isinstance(error, ConfigError)
    assert error.message.startswith("roles.teacher.cache: ")


def test_keys_that_would_do_nothing_are_refused() -> None:
    _check_connection("1.2.3.4:6379", ExecutorConfig(address="1.2.3.4:6379"))
    _check_connection("1.2.3.4:6379", ExecutorConfig(address="auto"))
    for key, value in (("address", "5.6.7.8:6379"), ("runtime_env", {"env_vars": {"A": "b"}})):
        with pytest.raises(ConfigError, match=f"executor.{key} would do nothing"):
            _check_connection("1.2.3.4:6379", ExecutorConfig.model_validate({key: value}))
