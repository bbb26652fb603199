"""Run directories: who may open one, and what they hold."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genprm.errors import StoreError
from genprm.records import Problem
from genprm.store import RunReader, RunStore, ShardRows

OPEN = """
import sys
from pathlib import Path
from genprm.errors import StoreError
from genprm.store import RunStore
try:
    with RunStore(Path(sys.argv[1]), config=sys.argv[2]):
        print("open", flush=True)
        sys.stdin.read(1)
except StoreError as error:
    print(f"{error.message} | {error.hint}", flush=True)
"""


def opener(path: Path, config: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(path), config],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_run_directory_holds_its_config_and_facts(tmp_path: Path) -> None:
    with RunStore(tmp_path / "a" / "run", config="seed: 1\n", facts={"seed": 1}) as store:
        store.write_json("report.json", {"x": 1})
        assert store.artifact("train", "key").is_dir()
    assert (tmp_path / "a" / "run" / "config.yaml").read_text() == "seed: 1\n"
    facts = json.loads((tmp_path / "a" / "run" / "run.json").read_text())
    assert facts["seed"] == 1
    assert facts["identity"]
    assert json.loads((tmp_path / "a" / "run" / "report.json").read_text()) == {"x": 1}


def test_a_process_with_the_same_config_joins_and_one_with_another_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with opener(run, "seed: 1") as first:
        assert says(first) == "open"
        with RunStore(run, config="seed: 1"), opener(run, "seed: 1") as third:
            assert says(third) == "open"
            third.kill()
        with pytest.raises(StoreError, match="another process works on the run directory") as caught:
            RunStore(run, config="seed: 2").__enter__()
        assert str(run) in caught.value.message
        assert "--run-dir" in caught.value.hint
        with pytest.raises(StoreError, match="another process"):
            RunStore(run, config="seed: 1", format="parquet").__enter__()
        with opener(run, "seed: 2") as second:
            assert "another process works on the run directory" in says(second)
        assert (run / "config.yaml").read_text() == "seed: 1", "the refused one wrote nothing"
        first.kill()
        first.wait()
    with RunStore(run, config="seed: 2"):
        assert (run / "config.yaml").read_text() == "seed: 2"


def test_who_is_refused_leaves_no_lock_behind(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run", config="a"):
        for _ in range(3):
            with pytest.raises(StoreError):
                RunStore(tmp_path / "run", config="b").__enter__()
    with RunStore(tmp_path / "run", config="b"):
        assert (tmp_path / "run" / "config.yaml").read_text() == "b"


@pytest.mark.parametrize("here", [True, False])
def test_a_directory_with_other_things_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    """`genprm run CONFIG -o .` in the wrong place must not write among somebody's files."""
    (tmp_path / "thesis.tex").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is not a run directory") as caught:
        RunStore(Path() if here else tmp_path).__enter__()
    assert "thesis.tex" in caught.value.message
    assert "--run-dir" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_directory_and_an_earlier_run_are_taken(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("")
    for seed in (1, 2):
        with RunStore(tmp_path, facts={"seed": seed}):
            assert RunReader(tmp_path).facts()["seed"] == seed
        (tmp_path / "notes.txt").write_text("mine")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_copy_of_a_run_without_its_lock_is_a_run(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run", config="seed: 1") as store:
        stage = store.stage("problems", Problem)
        meta = stage.write(
            0, "key", ShardRows([Problem(id="p", text="t")]), recipe="r", problems=1, seconds=0.0
        )
    (tmp_path / "run" / "run.lock").unlink()
    with RunStore(tmp_path / "run", config="seed: 1") as store:
        assert store.stage("problems", Problem).find(0, "key") == meta


def test_a_file_in_place_of_the_directory_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match="cannot create"):
        RunStore(tmp_path / "run").__enter__()


def test_a_directory_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(StoreError, match="Permission denied") as caught:
        RunStore(tmp_path / "run").__enter__()
    assert "permissions" in caught.value.hint


def test_repairs_are_kept_over_runs(tmp_path: Path) -> None:
    told: list[str] = []
    for what in ("first", "second"):
        with RunStore(tmp_path / "run", on_repair=told.append) as store:
            store.repaired(what)
            assert store.repairs == [what]
    lines = (tmp_path / "run" / "repairs.jsonl").read_text().splitlines()
    assert [json.loads(line)["damage"] for line in lines] == told == ["first", "second"]


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunStore(run):
        pass
    left = [
        run / ".config.yaml.a1b2c3_d.tmp",
        run / "stages" / "solutions" / ".000000-key.json.abcdefgh.tmp",
        run / "superseded" / "labels" / ".stage.json.01234567.tmp",
        run / "artifacts" / "train" / "key" / ".genprm.json.zzzzzzzz.tmp",
        run / "leases" / "synthesis-000003.lock",
    ]
    mine = [run / "notes.tmp", run / ".draft.tmp", run / "stages" / "solutions" / "000000-key.json"]
    for path in (*left, *mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with RunStore(run):
        assert [path for path in (*left, *mine) if path.exists()] == mine


def test_nothing_is_swept_while_another_process_works(tmp_path: Path) -> None:
    """Its half-written files are on their way to their places."""
    run = tmp_path / "run"
    with opener(run, "seed: 1") as first:
        assert says(first) == "open"
        half = run / ".report.json.abcdefgh.tmp"
        half.write_text("half")
        with RunStore(run, config="seed: 1"):
            assert half.exists()
        first.kill()
    with RunStore(run, config="seed: 1"):
        assert not half.exists()


@pytest.mark.parametrize("name", ["run.lock", "repairs.jsonl", "leases/work.lock"])
def test_a_link_in_place_of_a_file_is_refused_and_its_target_left_alone(tmp_path: Path, name: str) -> None:
    with RunStore(tmp_path / "run"):
        pass
    target = tmp_path / "thesis.tex"
    target.write_text("years of work")
    link = tmp_path / "run" / name
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    with (
        pytest.raises(StoreError, match=f"cannot open .*{name}") as caught,
        RunStore(tmp_path / "run") as store,
    ):
        store.repaired("damage")
    assert "symbolic link" in caught.value.hint
    assert target.read_text() == "years of work"


@pytest.mark.parametrize("name", ["config.yaml", "run.json"])
def test_a_link_in_place_of_a_written_file_is_replaced_and_its_target_left_alone(
    tmp_path: Path, name: str
) -> None:
    with RunStore(tmp_path / "run", config="seed: 1"):
        pass
    target = tmp_path / "thesis.tex"
    target.write_text("years of work")
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).symlink_to(target)
    with RunStore(tmp_path / "run", config="seed: 1"):
        assert not (tmp_path / "run" / name).is_symlink()
    assert target.read_text() == "years of work"


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(StoreError, match=r"is a symbolic link to .*gone, which is not there") as caught:
        RunStore(tmp_path / "run").__enter__()
    assert "--run-dir" in caught.value.hint
    (tmp_path / "gone").mkdir()
    with RunStore(tmp_path / "run"):
        assert (tmp_path / "gone" / "run.json").is_file()
