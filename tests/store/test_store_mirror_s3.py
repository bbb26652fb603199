"""A mirror on S3: the real client against a real server on this machine. `make test-integrations`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from genprm.errors import StoreError
from genprm.records import Problem
from genprm.store import Mirror, ShardRows, StageStore
from genprm.store import mirror as module

pytestmark = pytest.mark.integrations
SECONDS = 60.0


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server with an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An account of this server, as a user would set it, and the URL of a bucket in it."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem().mkdirs("bucket", exist_ok=True)
    return "s3://bucket"


def write(stage: StageStore[Problem], number: int, revision: int = 0) -> tuple[int, str]:
    rows = [Problem(id=f"p{number}-{i}", text="How many?", answer="½") for i in range(100)]
    meta = stage.write(
        number, "key", ShardRows(rows), recipe="r", problems=100, seconds=1.0, revision=revision
    )
    return meta.number, meta.key


async def test_shards_go_there_and_come_back(bucket: str, tmp_path: Path) -> None:
    stage, other = (StageStore(tmp_path / name, "problems", Problem) for name in ("one", "two"))
    (tmp_path / "one" / "config.yaml").parent.mkdir()
    (tmp_path / "one" / "config.yaml").write_text("seed: 1\n")
    mirror = Mirror(f"{bucket}/runs/first")
    assert not await mirror.fetch(other, 0, "key")
    await mirror.open(tmp_path / "one")
    for number in range(3):
        write(stage, number)
    await mirror.catch_up(stage)
    elsewhere = Mirror(f"{bucket}/runs/first")
    for number in range(3):
        assert await elsewhere.fetch(other, number, "key")
        found = other.find(number, "key")
        assert found is not None
        assert found == stage.find(number, "key")
        assert other.rows(found) == stage.rows(found)
    assert not await elsewhere.fetch(other, 3, "key")


async def test_new_revisions_are_seen_at_once(bucket: str, tmp_path: Path) -> None:
    """The client remembers listings; another process has written in between."""
    stage, other = (StageStore(tmp_path / name, "problems", Problem) for name in ("one", "two"))
    writer, reader = Mirror(f"{bucket}/runs/second"), Mirror(f"{bucket}/runs/second")
    for revision in range(3):
        assert await reader.fetch(other, 0, "key") is (revision > 0)
        write(stage, 0, revision)
        found = stage.find(0, "key")
        assert found is not None
        await writer.send(stage, found)
        assert await reader.fetch(other, 0, "key")
        assert other.find(0, "key") == found


async def test_a_bucket_that_is_not_there(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(
        StoreError, match=r"store\.mirror: cannot write s3://no-such-bucket/run/config\.yaml: "
    ):
        await Mirror("s3://no-such-bucket/run").open(tmp_path)


async def test_a_server_that_cannot_be_reached(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(module, "ATTEMPTS", 1)  # the client has patience of its own
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(
            StoreError, match=r"store\.mirror: cannot list s3://bucket/run/stages/problems/000000-key: "
        ):
            await Mirror("s3://bucket/run").fetch(StageStore(tmp_path, "problems", Problem), 0, "key")
