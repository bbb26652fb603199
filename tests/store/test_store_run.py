import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.errors import StoreError
from genprm.records import Dropped, Problem, StageOutput, Usage
from genprm.store import RunStore, content_key, write_atomic

texts = st.text(min_size=1, max_size=20)
problems = st.lists(
    st.builds(
        Problem,
        id=texts,
        text=texts,
        answer=st.none() | texts,
        metadata=st.dictionaries(texts, st.none() | st.integers() | texts | st.lists(st.booleans())),
    ),
    max_size=4,
)


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
@settings(max_examples=40, deadline=None)
@given(rows=problems)
def test_rows_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, format: str, rows: list[Problem]
) -> None:
    with RunStore(tmp_path_factory.mktemp("run"), format=format) as store:
        stage = store.stage("solutions", Problem)
        stage.finish([stage.write("k", len(rows), StageOutput(tuple(rows)), 1.0)])
        assert list(stage.all_rows()) == rows


def test_sums_count_rows_and_reasons(tmp_path: Path) -> None:
    drops = [
        Dropped(item_id="a", stage="s", reason="easy", usage=Usage(completion_tokens=3)),
        Dropped(item_id="b", stage="s", reason="hard", usage=Usage(completion_tokens=4)),
        Dropped(item_id="c", stage="s", reason="easy"),
    ]
    with RunStore(tmp_path / "run") as store:
        stage = store.stage("s", Problem)
        first = stage.write("1", 2, StageOutput((Problem(id="p", text="t"),), (drops[0],)), 1.5)
        second = stage.write("2", 2, StageOutput((), (drops[1], drops[2])), 0.5)
        summary = stage.finish([first, second])
    assert (summary.items, summary.rows, summary.dropped) == (4, 1, 3)
    assert summary.reasons == {"easy": 2, "hard": 1}
    assert summary.usage.completion_tokens == 7
    assert summary.seconds == 2.0
    assert stage.dropped(second) == drops[1:]


def test_a_damaged_shard_counts_as_not_done(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        stage = store.stage("s", Problem)
        meta = stage.write("1", 1, StageOutput((Problem(id="p", text="t"),)), 0.0)
        assert stage.find("1") == meta
        rows = next(stage.folder.glob("1.rows.*"))
        rows.write_bytes(rows.read_bytes()[:-3])
        assert stage.find("1") is None


def test_an_incomplete_stage_says_what_to_run(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store, pytest.raises(StoreError) as caught:
        list(store.stage("label", Problem).all_rows())
    assert "--until label" in caught.value.hint


def test_two_processes_cannot_share_a_run(tmp_path: Path) -> None:
    with RunStore(tmp_path), pytest.raises(StoreError, match="another process"), RunStore(tmp_path):
        pass
    with RunStore(tmp_path):
        pass


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from genprm.store import write_atomic
        real = os.fsync
        os.fsync = lambda fd: (print("ready", flush=True), os.read(0, 1), real(fd))
        write_atomic(Path(sys.argv[1]), b"new" * 1000)
    """)
    target = tmp_path / "file"
    target.write_bytes(b"old")
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert target.read_bytes() == b"old"


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as caught:
        write_atomic(tmp_path / "file", b"data")
    assert "No space left" in caught.value.message
    assert "run the same command again" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@given(st.lists(texts, min_size=1), st.lists(texts, min_size=1))
def test_keys_tell_contents_apart(left: list[str], right: list[str]) -> None:
    assert (content_key(left) == content_key(right)) == (left == right)
    assert content_key(*left) == content_key(*left)
