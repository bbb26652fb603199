"""Shards of a stage: what is found is what was written; every damage is found, reported and repaired."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.errors import StoreError
from genprm.records import Dropped, Lost, Problem, Usage
from genprm.store import RunStore, ShardMeta, ShardRows, StageStore, StageSummary, shards


def rows_of(number: int) -> ShardRows[Problem]:
    return ShardRows(
        rows=[Problem(id=f"{number}-{row}", text=f"problem {row}") for row in range(3)],
        dropped=[
            Dropped(item_id="a", problem_id=f"{number}-0", stage="s", reason="easy", count=2),
            Dropped(item_id="b", problem_id=f"{number}-1", stage="s", reason="hard"),
        ],
    )


def write(
    stage: StageStore[Problem], number: int, key: str, *, revision: int = 0, made: Any = None
) -> ShardMeta:
    return stage.write(
        number,
        key,
        made or rows_of(number),
        recipe="recipe",
        problems=3,
        seconds=1.5,
        inputs={"before": "content"},
        revision=revision,
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture(params=["jsonl", "parquet"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunStore]:
    with RunStore(tmp_path / "run", format=request.param) as opened:
        yield opened


@pytest.fixture
def stage(store: RunStore) -> StageStore[Problem]:
    return store.stage("s", Problem)


def test_a_shard_is_found_with_its_rows_and_totals(stage: StageStore[Problem]) -> None:
    made = ShardRows(
        rows=[Problem(id="p", text="t")],
        dropped=[
            Dropped(
                item_id="a", problem_id="a", stage="s", reason="easy", usage=Usage(completion_tokens=3)
            ),
            Dropped(
                item_id="b", problem_id="a", stage="s", reason="hard", usage=Usage(completion_tokens=4)
            ),
            Dropped(item_id="c", problem_id="c", stage="s", reason="easy", count=5),
        ],
        pending=[Lost(problem_id="q", reason="EngineTimeout", usage=Usage(completion_tokens=2))],
        waiting=["w"],
    )
    written = write(stage, 7, "k", made=made)
    found = stage.find(7, "k")
    assert found == written
    assert found is not None
    assert (found.number, found.key, found.recipe, found.problems) == (7, "k", "recipe", 3)
    assert (found.rows, found.dropped, found.reasons) == (1, 7, {"easy": 6, "hard": 1})
    assert (found.usage.completion_tokens, found.seconds) == (9, 1.5)
    assert found.unsettled == {"q", "w"}
    assert found.inputs == {"before": "content"}
    assert stage.rows(found) == tuple(made.rows)
    assert stage.dropped(found) == tuple(made.dropped)
    assert stage.find(7, "another") is None
    assert stage.find(8, "k") is None


# Every kind of damage, as what is done to shard 1 (its files by their kind; `other` are those of shard 2).
Files = dict[str, Path]


def _edit(**changes: Any) -> Callable[[Files, Files], None]:
    def damage(files: Files, other: Files) -> None:
        meta = json.loads(files["meta"].read_text())
        assert changes.keys() <= meta.keys()
        files["meta"].write_text(json.dumps(meta | changes))

    return damage


def _cut(kind: str) -> Callable[[Files, Files], None]:
    return lambda files, other: _rewrite(files[kind], files[kind].read_bytes()[:-3])


def _flip(kind: str) -> Callable[[Files, Files], None]:
    def damage(files: Files, other: Files) -> None:
        data = bytearray(files[kind].read_bytes())
        data[len(data) // 2] ^= 0x80
        _rewrite(files[kind], bytes(data))

    return damage


def _copy(kind: str) -> Callable[[Files, Files], None]:
    def damage(files: Files, other: Files) -> None:
        shutil.copyfile(other[kind], files[kind])

    return damage


def _copy_all(files: Files, other: Files) -> None:
    for kind, path in files.items():
        shutil.copyfile(other[kind], path)


def _rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Files, Files], None]] = {
    "meta of another shard": _copy("meta"),
    "rows of another shard": _copy("rows"),
    "dropped rows of another shard": _copy("dropped"),
    "all files of another shard": _copy_all,
    "edited count of rows": _edit(rows=2),
    "edited count of problems": _edit(problems=4),
    "edited count of dropped": _edit(dropped=0),
    "edited reasons": _edit(reasons={}),
    "edited pending": _edit(waiting=["p"]),
    "edited content": _edit(content="0" * 24),
    "edited costs": _edit(seconds=0.0),
    "edited seal": _edit(seal="0" * 24),
    "a key too many": lambda files, other: _rewrite(
        files["meta"], files["meta"].read_bytes().replace(b"{", b'{"more": 1, ', 1)
    ),
    "cut rows": _cut("rows"),
    "cut dropped rows": _cut("dropped"),
    "cut meta": _cut("meta"),
    "a bit of the rows": _flip("rows"),
    "a bit of the dropped rows": _flip("dropped"),
    "a bit of the meta": _flip("meta"),
    "no rows": lambda files, other: files["rows"].unlink(),
    "no dropped rows": lambda files, other: files["dropped"].unlink(),
    "empty meta": lambda files, other: _rewrite(files["meta"], b""),
    "edited dropped rows": lambda files, other: _rewrite(
        files["dropped"], files["dropped"].read_bytes().replace(b"easy", b"hard")
    ),
    "one dropped row less": lambda files, other: _rewrite(
        files["dropped"], files["dropped"].read_bytes().splitlines(keepends=True)[0]
    ),
}


def files_of(stage: StageStore[Problem], number: int, key: str) -> Files:
    stem = f"{number:06d}-{key}"
    return {
        "meta": stage.folder / f"{stem}.json",
        "rows": stage.folder / f"{stem}.rows.{stage.format}",
        "dropped": stage.folder / f"{stem}.dropped.jsonl",
    }


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_reported_and_repaired(
    store: RunStore, stage: StageStore[Problem], damage: str
) -> None:
    told: list[str] = []
    store._on_repair = told.append
    whole = [write(stage, number, f"key{number}") for number in range(3)]
    DAMAGES[damage](files_of(stage, 1, "key1"), files_of(stage, 2, "key2"))

    assert stage.find(1, "key1") is None
    assert len(told) == 1
    assert "stage 's', shard 1: its " in told[0]
    assert store.repairs == told
    logged = [json.loads(line) for line in (store.path / "repairs.jsonl").read_text().splitlines()]
    assert [entry["damage"] for entry in logged] == told
    assert all(entry["time"] for entry in logged)

    assert [meta.number for meta in stage.current("recipe")] == [0, 2], "readers pass over it"
    assert stage.find(0, "key0") == whole[0], "nobody else is concerned"
    assert stage.find(2, "key2") == whole[2]

    repaired = write(stage, 1, "key1")
    assert stage.find(1, "key1") == repaired
    assert stage.rows(repaired) == tuple(rows_of(1).rows)
    assert len(store.repairs) == 1


def test_a_shard_under_a_wrong_number_is_not_taken_for_it(
    store: RunStore, stage: StageStore[Problem]
) -> None:
    write(stage, 1, "key")
    for kind, path in files_of(stage, 1, "key").items():
        path.rename(files_of(stage, 2, "key")[kind])
    assert stage.find(2, "key") is None
    assert "belongs to another shard" in store.repairs[0]


def test_a_shard_of_another_stage_is_not_taken_for_ours(
    store: RunStore, stage: StageStore[Problem]
) -> None:
    other = store.stage("other", Problem)
    write(stage, 1, "key")
    shutil.copytree(stage.folder, other.folder)
    assert other.find(1, "key") is None
    assert "belongs to another shard" in store.repairs[0]


def test_rows_of_another_version_are_named(stage: StageStore[Problem]) -> None:
    meta = write(stage, 0, "key")
    with pytest.raises(StoreError, match="another version of genprm") as caught:
        StageStore(stage.folder.parent.parent, "s", Dropped, stage.format).rows(meta)
    assert str(files_of(stage, 0, "key")["rows"]) in caught.value.message


def test_shards_of_earlier_options_move_away_and_come_back(stage: StageStore[Problem]) -> None:
    for number in range(2):
        write(stage, number, "old")
    new = StageStore(stage.folder.parent.parent, "s", Problem, stage.format)
    assert new.find(0, "new") is None
    changed = write(new, 0, "new")
    new.keep_only(0, "new")
    assert set(files_of(new, 0, "new").values()) | set(files_of(new, 1, "old").values()) == set(
        new.folder.iterdir()
    )
    assert names(new.superseded) == {path.name for path in files_of(new, 0, "old").values()}

    back = StageStore(stage.folder.parent.parent, "s", Problem, stage.format)
    found = back.find(0, "old")
    assert found is not None
    assert back.rows(found) == tuple(rows_of(0).rows)
    back.keep_only(0, "old")
    assert names(back.superseded) == {path.name for path in files_of(back, 0, "new").values()}
    again = StageStore(stage.folder.parent.parent, "s", Problem, stage.format)
    assert again.find(0, "new") == changed


def test_a_damaged_superseded_shard_is_reported_when_it_comes_back(
    store: RunStore, stage: StageStore[Problem]
) -> None:
    write(stage, 0, "old")
    new = store.stage("s", Problem)
    write(new, 0, "new")
    new.keep_only(0, "new")
    moved = new.superseded / files_of(new, 0, "old")["dropped"].name
    moved.write_bytes(b"")
    assert store.stage("s", Problem).find(0, "old") is None
    assert "dropped rows" in store.repairs[0]


def test_surplus_shards_move_away(stage: StageStore[Problem]) -> None:
    for number in range(5):
        write(stage, number, "key")
    fewer = StageStore(stage.folder.parent.parent, "s", Problem, stage.format)
    fewer.end_at(3)
    assert [meta.number for meta in fewer.current("recipe")] == [0, 1, 2]
    assert {name.partition("-")[0] for name in names(fewer.superseded)} == {"000003", "000004"}


def test_moving_shards_about_reopens_the_stage(stage: StageStore[Problem]) -> None:
    """Totals count only while the shards that they are made of are in place."""

    def complete() -> None:
        summary = StageSummary(
            stage="s", row_type="Problem", recipe="recipe", complete=True, shards=2, rows=6
        )
        StageStore(run, "s", Problem, stage.format).write_summary(summary)

    def is_open() -> bool:
        found = stage.summary()
        assert found is not None
        assert (found.recipe, found.row_type) == ("recipe", "Problem")
        return not found.complete

    run = stage.folder.parent.parent
    write(stage, 0, "old")
    complete()
    StageStore(run, "s", Problem, stage.format).find(0, "old")
    assert not is_open(), "reading changes nothing"
    write(StageStore(run, "s", Problem, stage.format), 0, "new")
    assert is_open()
    complete()
    StageStore(run, "s", Problem, stage.format).keep_only(0, "new")
    assert is_open()
    complete()
    assert StageStore(run, "s", Problem, stage.format).find(0, "old") is not None
    assert is_open(), "a shard that comes back counts as well"


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 4)), min_size=1, max_size=6)
)
def test_after_every_run_only_its_own_shards_are_current(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Runs with any options and any number of shards, one after another: nothing is lost, nothing stale is current."""
    made: set[tuple[int, str]] = set()
    with RunStore(tmp_path_factory.mktemp("run")) as store:
        for key, count in steps:
            stage = store.stage("s", Problem)
            for number in range(count):
                found = stage.find(number, key)
                assert (found is not None) == ((number, key) in made), "what was made once is found again"
                if found is None:
                    write(stage, number, key)
                    made.add((number, key))
                stage.keep_only(number, key)
            stage.end_at(count)
            wanted = {path for number in range(count) for path in files_of(stage, number, key).values()}
            assert set(stage.folder.iterdir()) == wanted
            assert [(meta.number, meta.key) for meta in stage.current("recipe")] == [
                (number, key) for number in range(count)
            ]
        assert not store.repairs


def test_a_revision_replaces_the_one_before(stage: StageStore[Problem]) -> None:
    less = ShardRows(rows=rows_of(0).rows[:2], pending=[Lost(problem_id="0-2", reason="EngineTimeout")])
    first = write(stage, 0, "key", made=less)
    assert first.unsettled == {"0-2"}
    second = write(stage, 0, "key", revision=1)
    assert second.unsettled == frozenset()
    assert stage.find(0, "key") == second
    assert stage.rows(second) == tuple(rows_of(0).rows)
    third = write(stage, 0, "key", revision=2, made=less)
    assert stage.rows(third) == tuple(less.rows)
    assert len(names(stage.folder)) == 3, "files of earlier revisions are gone"


@pytest.mark.parametrize("after", range(3))
def test_a_kill_between_the_writes_leaves_the_old_or_the_new_shard(
    store: RunStore, stage: StageStore[Problem], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A revision is written in three files; the meta file, which is last, decides."""
    old = write(stage, 0, "key", made=ShardRows(rows=rows_of(0).rows[:1], waiting=["0-1", "0-2"]))
    real, count = shards.write_atomic, 0

    def killed(*args: Any, **more: Any) -> None:
        nonlocal count
        if count == after:
            raise KeyboardInterrupt
        count += 1
        real(*args, **more)

    monkeypatch.setattr(shards, "write_atomic", killed)
    monkeypatch.setattr(shards, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        write(stage, 0, "key", revision=1)
    monkeypatch.undo()
    later = store.stage("s", Problem)
    assert later.find(0, "key") == old
    assert later.rows(old) == tuple(rows_of(0).rows[:1])
    assert not store.repairs
    new = write(later, 0, "key", revision=1)
    assert later.find(0, "key") == new
    assert len(names(later.folder)) == 3


def test_a_kill_before_the_tidying_leaves_the_new_shard(
    store: RunStore, stage: StageStore[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(stage, 0, "key", made=ShardRows(rows=rows_of(0).rows[:1], waiting=["0-1", "0-2"]))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StageStore, "_remove_others", killed)
    with pytest.raises(KeyboardInterrupt):
        write(stage, 0, "key", revision=1)
    monkeypatch.undo()
    later = store.stage("s", Problem)
    found = later.find(0, "key")
    assert found is not None
    assert later.rows(found) == tuple(rows_of(0).rows)
    assert not store.repairs


def test_repairing_a_revised_shard_leaves_no_file_of_it(stage: StageStore[Problem]) -> None:
    write(stage, 0, "key")
    write(stage, 0, "key", revision=1)
    next(stage.folder.glob("*.1.rows.*")).unlink()
    assert stage.find(0, "key") is None
    write(stage, 0, "key")
    assert set(stage.folder.iterdir()) == set(files_of(stage, 0, "key").values())


@pytest.mark.parametrize("harm", ["", "meta"])
def test_all_files_of_a_shard_move_whatever_a_kill_left_of_it(
    store: RunStore, stage: StageStore[Problem], harm: str
) -> None:
    """Files of earlier revisions, of one that was not finished, and of a meta file that cannot be read."""
    for revision in range(3):
        write(stage, 0, "key", revision=revision)
    base = f"000000-key{{}}.rows.{stage.format}"
    for revision in ("", ".1", ".3"):
        (stage.folder / base.format(revision)).write_text("left")
    if harm:
        (stage.folder / "000000-key.json").write_text("{")
    before = names(stage.folder)
    assert len(before) == 6
    later = store.stage("s", Problem)
    write(later, 0, "new")
    later.keep_only(0, "new")
    assert names(stage.superseded) == before
    assert names(stage.folder) == {path.name for path in files_of(stage, 0, "new").values()}


def test_moving_shards_lists_the_folder_once(
    stage: StageStore[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing for each of very many shards would be quadratic."""
    for number in range(9):
        write(stage, number, "old")
        write(stage, number, "old", revision=1)
    listed: list[str] = []
    real = os.scandir

    def scandir(path: str | Path) -> Any:
        listed.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    new = StageStore(stage.folder.parent.parent, "s", Problem, stage.format)
    for number in range(9):
        write(new, number, "new")
        write(new, number, "new", revision=1)
        new.keep_only(number, "new")
    back = StageStore(stage.folder.parent.parent, "s", Problem, stage.format)
    assert all(back.find(number, "old") for number in range(9))
    assert listed == ["s"]


def test_a_stage_that_a_run_has_no_more_leaves_nothing_current(stage: StageStore[Problem]) -> None:
    stage.retire()  # one that never was
    for number in range(2):
        write(stage, number, "key")
    stage.write_summary(
        StageSummary(stage="s", row_type="Problem", recipe="recipe", complete=True, shards=2)
    )
    later = StageStore(stage.folder.parent.parent, "s", Problem, stage.format)
    later.retire()
    assert names(stage.folder) == set()
    assert later.summary() is None
    assert StageStore(stage.folder.parent.parent, "s", Problem, stage.format).find(1, "key") is not None
