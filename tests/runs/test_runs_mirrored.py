"""Runs with a mirror: another machine goes on from object storage, and actors share no file system."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sums
from faulty_chain import (
    STAGES,
    Maker,
    Notes,
    Recorder,
    chain,
    execute,
    local,
    problems,
    rows_of,
)
from test_runs_kills import PROBLEMS, points, run
from test_runs_soak import truth_of

from genprm.config import RunConfig, load_config
from genprm.errors import ConfigError, EngineUnavailable, RunIncomplete, StoreError
from genprm.runs import Chain, Shard, run_pipeline
from genprm.runs.cluster.actor import ShardActor
from genprm.runs.cluster.handover import take_over
from genprm.runs.cluster.messages import Computed, Event, Led, Order, Ready, Reused
from genprm.runs.stages.problems import ProblemsStage
from genprm.store import Mirror, RunStore, ShardMeta, StageStore
from genprm.store import mirror as module

COUNT = 10


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket"


async def test_another_machine_goes_on_where_one_was_lost(tmp_path: Path, url: str) -> None:
    sums.register()
    source = sums.write_problems(tmp_path / "problems.jsonl", 8)
    config = load_config(None, [f"store.mirror={url}"], model=RunConfig, base=sums.config(source))
    alone = load_config(None, model=RunConfig, base=sums.config(source))
    await run_pipeline(alone, tmp_path / "undisturbed", until="chats")
    sums.calls.clear()
    await run_pipeline(config, tmp_path / "first", until="labels")
    spent = sums.calls.copy()
    shutil.rmtree(tmp_path / "first")
    await run_pipeline(config, tmp_path / "second", until="chats")
    assert truth_of(tmp_path / "second") == truth_of(tmp_path / "undisturbed")
    assert {name: sums.calls[name] - spent[name] for name in ("policy", "completer")} == {
        "policy": 0,
        "completer": 0,
    }
    assert sums.calls["teacher"]
    sums.calls.clear()
    result = await run_pipeline(config, tmp_path / "third", until="chats")
    assert not sums.calls
    assert result.repairs == []
    assert truth_of(tmp_path / "third") == truth_of(tmp_path / "undisturbed")


async def test_pending_problems_alone_are_tried_elsewhere(tmp_path: Path, url: str) -> None:
    notes = Notes.make(tmp_path / "notes", {"left/p4": ["lost", "lost"]})
    with pytest.raises(RunIncomplete):
        await execute(local, tmp_path / "first", chain(notes), problems(COUNT), mirror=url)
    before = notes.calls()
    await execute(local, tmp_path / "second", chain(notes), problems(COUNT), mirror=url)
    assert set(notes.calls() - before) == {("left", "p4"), ("last", "p4")}
    await execute(local, tmp_path / "alone", chain(Notes.make(tmp_path / "b")), problems(COUNT))
    assert rows_of(tmp_path / "second") == rows_of(tmp_path / "alone")
    after = notes.calls()
    await execute(local, tmp_path / "third", chain(notes), problems(COUNT), mirror=url)
    assert notes.calls() == after, "the newest revisions are taken"


async def test_a_mirror_may_come_later(tmp_path: Path, url: str) -> None:
    notes = Notes.make(tmp_path / "notes")
    await execute(local, tmp_path / "first", chain(notes), problems(COUNT))
    before = notes.calls()
    await execute(local, tmp_path / "first", chain(notes), problems(COUNT), mirror=url)
    await execute(local, tmp_path / "second", chain(notes), problems(COUNT), mirror=url)
    assert notes.calls() == before
    assert rows_of(tmp_path / "second") == rows_of(tmp_path / "first")


async def test_options_that_come_back_are_found_again(tmp_path: Path, url: str) -> None:
    notes = Notes.make(tmp_path / "notes")
    await execute(local, tmp_path / "one", chain(notes), problems(COUNT), mirror=url)
    await execute(local, tmp_path / "one", chain(notes, {"left": 1}), problems(COUNT), mirror=url)
    changed = rows_of(tmp_path / "one")
    before = notes.calls()
    await execute(local, tmp_path / "two", chain(notes), problems(COUNT), mirror=url)
    await execute(local, tmp_path / "two", chain(notes, {"left": 1}), problems(COUNT), mirror=url)
    assert rows_of(tmp_path / "two") == changed
    assert notes.calls() == before


async def test_a_damaged_shard_comes_from_the_mirror(tmp_path: Path, url: str) -> None:
    notes, told = Notes.make(tmp_path / "notes"), Recorder()
    await execute(local, tmp_path / "run", chain(notes), problems(COUNT), mirror=url)
    before, rows = notes.calls(), rows_of(tmp_path / "run")
    (damaged,) = (tmp_path / "run" / "stages" / "left").glob("000001-*.rows.jsonl")
    damaged.write_text("{}\n")
    await execute(local, tmp_path / "run", chain(notes), problems(COUNT), mirror=url, progress=told)
    assert notes.calls() == before
    assert rows_of(tmp_path / "run") == rows
    assert any("were changed or cut" in note for note in told.notes)


async def test_what_an_unstable_engine_said_before_is_not_mixed_with_what_it_says_now(
    tmp_path: Path, url: str
) -> None:
    """A shard of the mirror that was made from other rows is computed again."""
    notes = Notes.make(tmp_path / "notes")
    await execute(local, tmp_path / "one", chain(notes), problems(COUNT), mirror=url)
    for lost in (tmp_path / "bucket" / "stages" / "first").iterdir():
        shutil.rmtree(lost)
    notes.answers("something else")
    await execute(local, tmp_path / "two", chain(notes), problems(COUNT), mirror=url)
    alone = Notes.make(tmp_path / "b")
    alone.answers("something else")
    await execute(local, tmp_path / "alone", chain(alone), problems(COUNT))
    assert rows_of(tmp_path / "two") == rows_of(tmp_path / "alone")


async def test_a_shard_that_does_not_fit_any_more_is_replaced_for_good(tmp_path: Path, url: str) -> None:
    """Also if it had another revision before."""
    notes = Notes.make(tmp_path / "notes", {"left/p4": ["lost"]})
    await execute(local, tmp_path / "one", chain(notes), problems(COUNT), mirror=url)
    assert list((tmp_path / "bucket" / "stages" / "left").glob("000001-*/1.zip"))
    for lost in (tmp_path / "bucket" / "stages" / "first").iterdir():
        shutil.rmtree(lost)
    notes.answers("something else")
    await execute(local, tmp_path / "two", chain(notes), problems(COUNT), mirror=url)
    before = notes.calls()
    await execute(local, tmp_path / "three", chain(notes), problems(COUNT), mirror=url)
    assert notes.calls() == before
    assert rows_of(tmp_path / "three") == rows_of(tmp_path / "two")


async def test_what_was_superseded_before_is_sent_too(tmp_path: Path, url: str) -> None:
    notes = Notes.make(tmp_path / "notes")
    await execute(local, tmp_path / "one", chain(notes), problems(COUNT))
    await execute(local, tmp_path / "one", chain(notes, {"left": 1}), problems(COUNT))
    superseded = sorted((tmp_path / "one" / "superseded").rglob("*"))
    await execute(local, tmp_path / "one", chain(notes, {"left": 1}), problems(COUNT), mirror=url)
    assert sorted((tmp_path / "one" / "superseded").rglob("*")) == superseded, "nothing is moved for it"
    before = notes.calls()
    await execute(local, tmp_path / "two", chain(notes), problems(COUNT), mirror=url)
    assert notes.calls() == before


async def test_a_mirror_that_cannot_be_written_ends_the_run_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    (tmp_path / "file").write_text("not a folder")
    notes = Notes.make(tmp_path / "notes")
    with pytest.raises(StoreError, match=r"cannot write file://.*/file/bucket/config\.yaml") as caught:
        await execute(
            local, tmp_path / "run", chain(notes), problems(2), mirror=f"file://{tmp_path}/file/bucket"
        )
    assert "credentials" in caught.value.hint
    assert not notes.calls()


async def test_a_mirror_that_is_no_url_leaves_no_run_directory(tmp_path: Path) -> None:
    sums.register()
    source = sums.write_problems(tmp_path / "problems.jsonl", 2)
    config = load_config(None, ["store.mirror=bucket"], model=RunConfig, base=sums.config(source))
    with pytest.raises(ConfigError, match="is not the URL of a folder"):
        await run_pipeline(config, tmp_path / "run", until="chats")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_machines_that_are_lost_again_and_again(tmp_path: Path) -> None:
    """Ten drivers are killed, and their directories are lost with them."""
    problems = sums.write_problems(tmp_path / "problems.jsonl", PROBLEMS)
    assert run(problems, tmp_path / "undisturbed") == 0
    mirror = f"store.mirror=file://{tmp_path}/bucket"
    planned = points(random.Random(1))
    for number, point in enumerate(planned):
        run(problems, tmp_path / str(number), *point, options=[mirror])
        shutil.rmtree(tmp_path / str(number))
    assert run(problems, tmp_path / "last", options=[mirror]) == 0
    assert truth_of(tmp_path / "last") == truth_of(tmp_path / "undisturbed"), planned
    assert not (tmp_path / "last" / "repairs.jsonl").exists()


# ---------------------------------------------------------------- actors that share no file system


@pytest.fixture
def work(tmp_path: Path) -> Chain:
    given = chain(Notes.make(tmp_path / "notes"))
    return Chain(given.name, (ProblemsStage(), *given.stages))


@pytest.fixture
def store(tmp_path: Path, url: str) -> Iterator[RunStore]:
    with RunStore(tmp_path / "run", config="one config", mirror=Mirror(url)) as opened:
        yield opened


@pytest.fixture
def stores(store: RunStore, work: Chain) -> dict[str, StageStore[object]]:
    return {stage.name: store.stage(stage.name, stage.row_type) for stage in work.stages}


@pytest.fixture
def order(tmp_path: Path, url: str, work: Chain, monkeypatch: pytest.MonkeyPatch) -> Order:
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    nowhere = tmp_path / "not on this node"
    return Order(
        actor="one",
        chain=work,
        decides={stage.name: stage.decides().digest() for stage in work.stages},
        config=RunConfig(),
        folder=nowhere,
        run=nowhere / "run",
        mandate=nowhere / "mandate",
        mirror=url,
        format="jsonl",
    )


async def led(order: Order) -> tuple[list[Event], dict[str, ShardMeta]]:
    """What an actor of its own reports of the first shard."""
    actor = ShardActor()
    assert isinstance(await actor.begin(order), Ready)
    shard = Shard(0, tuple(problems(3)))
    events = [event async for event in actor.lead(shard, frozenset(), second_pass=False)]
    await actor.close()
    return events, {event.stage: event.meta for event in events if isinstance(event, Computed | Reused)}


async def test_an_actor_leaves_everything_in_the_mirror(
    tmp_path: Path, order: Order, store: RunStore, stores: dict[str, StageStore[object]]
) -> None:
    events, metas = await led(order)
    assert events[-1] == Led(settled=True)
    assert set(metas) == {"problems", *STAGES}
    assert list((tmp_path / "node").iterdir()) == []
    assert not order.run.exists()
    assert await take_over(store.mirror, stores, metas)
    found = {name: stores[name].find(0, meta.key) for name, meta in metas.items()}
    assert found == metas
    assert all(stores[name].rows(meta) for name, meta in metas.items())


async def test_another_actor_reads_what_one_had_finished(order: Order) -> None:
    _, made = await led(order)
    events, found = await led(replace(order, actor="two"))
    assert not any(isinstance(event, Computed) for event in events)
    assert found == made


async def test_what_an_actor_did_not_report_is_not_taken_over(
    order: Order, tmp_path: Path, store: RunStore, stores: dict[str, StageStore[object]]
) -> None:
    """An actor that was taken for dead writes last, and says something else: the shard is led again."""
    _, metas = await led(order)
    shutil.rmtree(tmp_path / "bucket")
    Notes(tmp_path / "notes").answers("something else")
    await led(replace(order, actor="dead"))
    assert not await take_over(store.mirror, stores, metas)
    events, metas = await led(replace(order, actor="two"))
    assert not any(isinstance(event, Computed) for event in events)
    assert await take_over(store.mirror, stores, metas)


async def test_shards_of_other_options_move_out_of_the_drivers_way(
    tmp_path: Path, order: Order, store: RunStore, stores: dict[str, StageStore[object]]
) -> None:
    earlier = chain(Notes(tmp_path / "notes"), {"left": 1})
    await execute(local, tmp_path / "run2", earlier, problems(3))
    shutil.copytree(tmp_path / "run2" / "stages", tmp_path / "run" / "stages")
    _, metas = await led(order)
    assert await take_over(store.mirror, stores, metas)
    (stem,) = {path.name.partition(".")[0] for path in stores["left"].folder.glob("0*")}
    assert stem == f"000000-{metas['left'].key}"
    assert list((tmp_path / "run" / "superseded" / "left").glob("0*.json"))


@pytest.mark.slow
async def test_on_ray_without_a_common_file_system(tmp_path: Path, url: str, on_ray: Maker) -> None:
    """Actors are killed inside every stage; another machine then finds all of it."""
    await execute(local, tmp_path / "local", chain(Notes.make(tmp_path / "a")), problems(COUNT))
    plan = {"first/p1": ["kill"], "left/p0": ["kill"], "right/p5": ["kill"], "last/p9": ["kill"]}
    notes, told = Notes.make(tmp_path / "notes", plan), Recorder()
    await execute(on_ray, tmp_path / "run", chain(notes), problems(COUNT), progress=told, mirror=url)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "local")
    assert any("died, and others take its shards" in note for note in told.notes)
    before = notes.calls()
    await execute(on_ray, tmp_path / "elsewhere", chain(notes), problems(COUNT), mirror=url)
    assert notes.calls() == before
    assert rows_of(tmp_path / "elsewhere") == rows_of(tmp_path / "local")


@pytest.mark.slow
async def test_on_ray_a_shard_that_was_begun_on_one_machine(
    tmp_path: Path, url: str, on_ray: Maker
) -> None:
    notes = Notes.make(tmp_path / "notes", {"right/p3": ["raise"]})
    with pytest.raises(EngineUnavailable):
        await execute(local, tmp_path / "run", chain(notes), problems(COUNT))
    before = notes.calls()
    await execute(on_ray, tmp_path / "run", chain(notes), problems(COUNT), mirror=url)
    again = notes.calls() - before
    assert not [key for key in again if key[0] == "first" and key in before]
    await execute(local, tmp_path / "local", chain(Notes.make(tmp_path / "a")), problems(COUNT))
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "local")
