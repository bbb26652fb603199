"""Mirrors: shards as single objects, whole or not at all, and what goes wrong on the way to them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from genprm.errors import ConfigError, MissingExtraError, StoreError
from genprm.records import Dropped, Lost, Problem
from genprm.store import Mirror, ShardMeta, ShardRows, StageStore
from genprm.store import mirror as module

URL = "memory://bucket/runs/first"


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield
    MemoryFileSystem.store.clear()


@pytest.fixture
def stage(tmp_path: Path) -> StageStore[Problem]:
    return StageStore(tmp_path / "run", "problems", Problem)


@pytest.fixture
def other(tmp_path: Path) -> StageStore[Problem]:
    """The same stage on another machine."""
    return StageStore(tmp_path / "other", "problems", Problem)


def write(stage: StageStore[Problem], number: int = 0, *, revision: int = 0, rows: int = 2) -> ShardMeta:
    made = ShardRows(
        [Problem(id=f"p{number}-{i}", text="How many?", answer="½") for i in range(rows)],
        [Dropped(problem_id="bad", item_id="bad", stage="problems", reason="no_answer")],
        [] if revision else [Lost(problem_id="late", reason="timeout", detail="x", retryable=True)],
    )
    return stage.write(number, "k" * 8, made, recipe="r", problems=rows + 1, seconds=1.0, revision=revision)


def objects() -> set[str]:
    return {str(name).removeprefix("/bucket/runs/first/") for name in MemoryFileSystem.store}


async def test_a_shard_goes_there_and_comes_back(
    stage: StageStore[Problem], other: StageStore[Problem]
) -> None:
    meta = write(stage)
    await Mirror(URL).send(stage, meta)
    assert objects() == {f"stages/problems/000000-{'k' * 8}/0.zip"}
    assert await Mirror(URL).fetch(other, 0, meta.key)
    assert other.find(0, meta.key) == meta
    assert other.rows(meta) == stage.rows(meta)
    assert other.dropped(meta) == stage.dropped(meta)
    assert not await Mirror(URL).fetch(other, 1, meta.key)
    assert not await Mirror(URL).fetch(other, 0, "another")


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
async def test_both_formats(tmp_path: Path, other: StageStore[Problem], format: Any) -> None:
    stage = StageStore(tmp_path / "run", "problems", Problem, format)
    meta = write(stage)
    await Mirror(URL).send(stage, meta)
    assert await Mirror(URL).fetch(other, 0, meta.key)
    assert other.rows(meta) == stage.rows(meta)


async def test_the_newest_revision_comes_and_takes_the_place_of_older_ones(
    stage: StageStore[Problem], other: StageStore[Problem]
) -> None:
    mirror = Mirror(URL)
    for revision in range(11):
        newest = write(stage, revision=revision, rows=revision + 1)
        await mirror.send(stage, newest)
        if revision == 2:
            assert await mirror.fetch(other, 0, newest.key)
    assert await mirror.fetch(other, 0, newest.key)
    assert other.find(0, newest.key) == newest
    assert len(list(other.folder.iterdir())) == 3


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    return data[:60] + bytes([data[60] ^ 1]) + data[61:]


@pytest.mark.parametrize("harm", [cut, flip, lambda data: b"", lambda data: b"<html>404</html>"])
async def test_damaged_objects_are_passed_over(
    stage: StageStore[Problem], other: StageStore[Problem], harm: Callable[[bytes], bytes]
) -> None:
    mirror = Mirror(URL)
    first = write(stage)
    await mirror.send(stage, first)
    await mirror.send(stage, write(stage, revision=1))
    system, root = fsspec.core.url_to_fs(URL)
    newest = f"{root}/stages/problems/000000-{first.key}/1.zip"
    system.pipe_file(newest, harm(system.cat_file(newest)))
    assert await mirror.fetch(other, 0, first.key)
    assert other.find(0, first.key) == first
    system.rm(f"{root}/stages/problems/000000-{first.key}/0.zip")
    shutil.rmtree(other.folder)
    assert not await mirror.fetch(other, 0, first.key)
    assert not other.folder.exists()


async def test_an_object_under_the_name_of_another_shard(
    stage: StageStore[Problem], other: StageStore[Problem]
) -> None:
    meta = write(stage)
    data = stage.pack(meta)
    assert not other.unpack(1, meta.key, data)
    assert not other.unpack(0, "another", data)
    assert not StageStore(other.folder.parent.parent, "labels", Problem).unpack(0, meta.key, data)
    assert not other.folder.exists()
    assert other.unpack(0, meta.key, data)


async def test_what_is_missing_is_sent_later(
    stage: StageStore[Problem], other: StageStore[Problem]
) -> None:
    mirror = Mirror(URL)
    metas = [write(stage, number) for number in range(5)]
    await mirror.send(stage, metas[1])
    damaged = stage.folder / f"000003-{metas[3].key}.rows.jsonl"
    damaged.write_text("")
    before = {name: MemoryFileSystem.store[name].modified for name in MemoryFileSystem.store}
    await mirror.catch_up(stage)
    for name, modified in before.items():
        assert MemoryFileSystem.store[name].modified == modified  # what is there is not sent again
    arrived = [await mirror.fetch(other, meta.number, meta.key) for meta in metas]
    assert arrived == [True, True, True, False, True]


async def test_in_a_file_system_an_object_is_there_at_once_or_not(
    tmp_path: Path, stage: StageStore[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is killed half-way leaves something that nobody takes for a shard."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    mirror, meta = Mirror(f"file://{tmp_path}/bucket"), write(stage)
    with monkeypatch.context() as patched:
        patched.setattr(type(mirror._fs), "mv", Flaky(99, OSError("killed")))
        with pytest.raises(StoreError):
            await mirror.send(stage, meta)
    assert list((tmp_path / "bucket").rglob("*.part"))
    assert not list((tmp_path / "bucket").rglob("*.zip"))
    await mirror.catch_up(stage)
    assert len(list((tmp_path / "bucket").rglob("*.zip"))) == 1


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("AuthenticationException")])
def test_a_storage_that_fails_when_it_is_first_met(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(url: str) -> None:
        raise error

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(StoreError, match=f"cannot reach {URL}: "):
        Mirror(URL)


async def test_config_and_facts_are_there_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    await Mirror(URL + "/").open(tmp_path)
    assert objects() == {"config.yaml"}


class Flaky:
    """A storage whose first calls fail."""

    def __init__(self, fails: int, error: Exception) -> None:
        self.left, self.error = fails, error
        self.calls = 0

    def __call__(self, *args: object, **options: object) -> list[str]:
        self.calls += 1
        if self.calls <= self.left:
            raise self.error
        return []


@pytest.mark.parametrize("error", [TimeoutError("slow"), PermissionError("Access Denied"), RuntimeError()])
async def test_a_storage_that_fails_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, stage: StageStore[Problem], error: Exception
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    mirror = Mirror(URL)
    soon, never = Flaky(module.ATTEMPTS - 1, error), Flaky(99, error)
    monkeypatch.setattr(MemoryFileSystem, "find", soon)
    assert not await mirror.fetch(stage, 0, "k")
    assert soon.calls == module.ATTEMPTS
    monkeypatch.setattr(MemoryFileSystem, "find", never)
    with pytest.raises(
        StoreError, match=f"^store.mirror: cannot list {URL}/stages/problems/000000-k: "
    ) as caught:
        await mirror.fetch(stage, 0, "k")
    assert never.calls == module.ATTEMPTS
    assert "credentials" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("bucket/runs", "is not the URL of a folder"),
        ("s3:bucket/runs", "is not the URL of a folder"),
        ("s3://", "is not the URL of a folder"),
        ("s3:///", "is not the URL of a folder"),
        ("s3", "is not the URL of a folder"),
        ("nothing://bucket/run", "nothing"),
        ("s3://bucket/run", "a package for 's3://bucket/run' is missing"),
    ],
)
def test_urls_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"^store\.mirror") as caught:
        Mirror(url)
    assert said in caught.value.message
    assert caught.value.hint


def test_without_fsspec_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError) as caught:
        Mirror(URL)
    assert caught.value.hint == "pip install 'genprm[mirror]'"
