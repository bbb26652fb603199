"""Reading a run needs no lock, gives rows in order, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from genprm.errors import StoreError
from genprm.records import Dropped, Problem
from genprm.store import RunReader, RunStore, ShardRows, StageSummary

RECIPE = "recipe"


def write(
    store: RunStore, number: int, *, recipe: str = RECIPE, text: str = "t", name: str = "problems"
) -> None:
    rows = [Problem(id=f"{number}-{row}", text=text) for row in range(2)]
    dropped = [Dropped(item_id=str(number), problem_id=f"{number}-0", stage=name, reason="easy")]
    store.stage(name, Problem).write(
        number, f"{text}{number}", ShardRows(rows, dropped), recipe=recipe, problems=2, seconds=0.0
    )


def summarise(store: RunStore, shards: int, *, complete: bool = True, name: str = "problems") -> None:
    store.stage(name, Problem).write_summary(
        StageSummary(stage=name, row_type="Problem", recipe=RECIPE, complete=complete, shards=shards)
    )


def ids(rows: object) -> list[str]:
    return [row.id for row in rows]  # type: ignore[attr-defined]


def test_rows_come_in_order_while_the_run_is_open(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run", config="seed: 1") as store:
        for number in (10, 2, 0, 1, *range(3, 10)):
            write(store, number)
        summarise(store, 11)
        reader = RunReader(tmp_path / "run")
        assert ids(reader.rows("problems")) == [f"{n}-{row}" for n in range(11) for row in range(2)]
        assert [drop.item_id for drop in reader.dropped("problems")] == [str(n) for n in range(11)]
        assert ids(reader.problems()) == ids(reader.rows("problems"))
        assert reader.facts()["identity"]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        write(store, 0)
        summarise(store, 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    reader = RunReader(tmp_path / "run")
    list(reader.rows("problems"))
    reader.stages()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_an_incomplete_stage_is_read_only_on_request(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        write(store, 1)
        write(store, 0)
        summarise(store, 0, complete=False)
    reader = RunReader(tmp_path / "run")
    with pytest.raises(StoreError, match="not complete") as caught:
        list(reader.rows("problems"))
    assert "--until problems" in caught.value.hint
    assert "2 shards are finished" in caught.value.message
    assert ids(reader.rows("problems", partial=True)) == ["0-0", "0-1", "1-0", "1-1"]


@pytest.mark.parametrize("suffix", [".json", ".rows.jsonl", ".dropped.jsonl"])
def test_a_damaged_shard_is_reported(tmp_path: Path, suffix: str) -> None:
    with RunStore(tmp_path / "run") as store:
        for number in range(3):
            write(store, number)
        summarise(store, 3)
    damaged = tmp_path / "run" / "stages" / "problems" / f"000001-t1{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    reader = RunReader(tmp_path / "run")
    with pytest.raises(StoreError, match="2 of 3 shards") as caught:
        list(reader.rows("problems"))
    assert "computed anew" in caught.value.hint
    assert ids(reader.rows("problems", partial=True)) == ["0-0", "0-1", "2-0", "2-1"]


def test_shards_of_other_options_are_not_read(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        write(store, 0)
        write(store, 1)
        write(store, 1, recipe="another", text="u")
        summarise(store, 2)
    assert ids(RunReader(tmp_path / "run").rows("problems")) == ["0-0", "0-1", "1-0", "1-1"]


def test_stages_are_listed_and_unknown_ones_named(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        summarise(store, 0, name="b")
        summarise(store, 0, name="a", complete=False)
    reader = RunReader(tmp_path / "run")
    assert [(one.stage, one.complete) for one in reader.stages()] == [("a", False), ("b", True)]
    with pytest.raises(StoreError, match="no stage 'c'") as caught:
        reader.summary("c")
    assert "a, b" in caught.value.hint


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a run directory"):
        RunReader(tmp_path)


def test_a_damaged_record_of_the_stage_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        write(store, 0)
        summarise(store, 1)
    path = tmp_path / "run" / "stages" / "problems" / "stage.json"
    whole = path.read_text()
    path.write_text(whole.replace('"Problem"', '"Poblem"'))
    with pytest.raises(StoreError, match="unknown kind: Poblem"):
        list(RunReader(tmp_path / "run").rows("problems"))
    for damage in (b"\xff", b"{}", b"[]", b"", b'{"stage": 1}'):
        path.write_bytes(damage)
        with pytest.raises(StoreError, match=r"stage\.json is damaged") as caught:
            list(RunReader(tmp_path / "run").rows("problems"))
        assert "run/config.yaml', or the command that made the run" in caught.value.hint
        assert RunReader(tmp_path / "run").stages() == []


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"planned": 7}, "2 of at most 7 shards are finished"),
        ({"shards": 2, "problems": 4, "pending": 1}, "1 of 4 problems are pending"),
    ],
)
def test_an_incomplete_stage_says_how_far_it_is(tmp_path: Path, facts: dict[str, int], says: str) -> None:
    with RunStore(tmp_path / "run") as store:
        write(store, 0)
        write(store, 1)
        store.stage("problems", Problem).write_summary(
            StageSummary.model_validate(
                {"stage": "problems", "row_type": "Problem", "recipe": RECIPE, **facts}
            )
        )
    with pytest.raises(StoreError, match=says):
        list(RunReader(tmp_path / "run").rows("problems"))


def test_a_problem_that_two_finished_shards_have_is_read_once(tmp_path: Path) -> None:
    """A run with one problem in a shard was finished, then one with two was interrupted after its first shard."""
    with RunStore(tmp_path / "run") as store:
        stage = store.stage("problems", Problem)
        for number, key, ids_ in ((0, "new", "ab"), (1, "old", "b"), (2, "old", "c")):
            rows = [Problem(id=name, text="t") for name in ids_]
            dropped = [Dropped(item_id=name, problem_id=name, stage="s", reason="easy") for name in ids_]
            stage.write(
                number, key, ShardRows(rows, dropped), recipe=RECIPE, problems=len(ids_), seconds=0.0
            )
        summarise(store, 0, complete=False)
    reader = RunReader(tmp_path / "run")
    assert ids(reader.rows("problems", partial=True)) == ["a", "b", "c"]
    assert [row.item_id for row in reader.dropped("problems", partial=True)] == ["a", "b", "c"]


def test_a_damaged_shard_is_an_error_for_its_problems_alone(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        for number in range(3):
            write(store, number)
            write(store, number, name="more")
        summarise(store, 3)
        summarise(store, 3, name="more")
    reader = RunReader(tmp_path / "run")
    (tmp_path / "run" / "stages" / "more" / "000001-t1.rows.jsonl").write_text("")
    assert set(reader.about("0-0")) == {"problems", "more"}
    with pytest.raises(StoreError, match="'more' has 2 of 3 shards"):
        reader.about("1-0")
    (tmp_path / "run" / "stages" / "problems" / "000002-t2.json").write_text("")
    (tmp_path / "run" / "stages" / "more" / "000002-t2.json").write_text("")
    with pytest.raises(StoreError, match=r"has 2 of 3 shards|has 1 of 3 shards"):
        reader.about("2-1")
    assert set(reader.about("0-0")) == {"problems", "more"}
