"""Atomic files: a kill or a full disk leaves the old content or the new, never something between."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.errors import StoreError
from genprm.store import checksum, file_checksum, read_json, write_atomic, write_json


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
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "says", "hint"),
    [
        (errno.ENOSPC, "No space left", "run the same command again"),
        (errno.EDQUOT, "quota", "run the same command again"),
        (errno.EROFS, "Read-only", "another run directory"),
    ],
)
def test_a_full_disk_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str, hint: str
) -> None:
    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    target = tmp_path / "file"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=says) as caught:
        write_atomic(target, b"data")
    assert str(target) in caught.value.message
    assert hint in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "no temporary file is left"
    assert target.read_bytes() == b"old"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_reads_back_as_written(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, {"value": value})
    assert read_json(path) == {"value": value}


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a": \xff}', b"[" * 100_000], ids=["empty", "cut", "bit", "deep"]
)
def test_a_damaged_json_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "stage.json"
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged") as caught:
        read_json(path)
    assert str(path) in caught.value.message


@given(st.binary(max_size=2000))
def test_a_checksum_of_a_file_is_that_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data * 1000)
    assert file_checksum(path) == checksum(data * 1000)
