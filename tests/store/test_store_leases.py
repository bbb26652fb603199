"""Leases: one holder at a time, between processes and within one; they end with their process, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from genprm.errors import StoreError
from genprm.store import RunStore, check_mandate
from genprm.store.leases import lease

HOLD = """
import sys
from pathlib import Path
from genprm.store.leases import lease
with lease(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read(1)
"""


def holder(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_lease_is_exclusive_within_a_process(tmp_path: Path) -> None:
    path = tmp_path / "leases" / "a.lock"
    with lease(path) as mine:
        assert mine
        with lease(path) as second:
            assert not second
        with lease(path) as third:
            assert not third, "a refused attempt does not end the lease"
        with lease(tmp_path / "leases" / "b.lock") as other:
            assert other
    assert list(path.parent.iterdir()) == [], "the files go with the leases"
    with lease(path) as again:
        assert again


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_lease_is_exclusive_between_processes_and_ends_with_its_process(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.lock"
    with holder(path) as process:
        assert first_line(process) == b"True"
        with lease(path) as mine:
            assert not mine
        with holder(path) as second:
            assert first_line(second) == b"False"
            second.kill()
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            assert process.stdin is not None
            process.stdin.write(b"x")
            process.stdin.flush()
        process.wait()
    with lease(path) as mine:
        assert mine
    assert not path.exists()


def test_threads_that_race_for_a_lease_hold_it_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    holders = 0
    most = 0
    taken = 0
    guard = threading.Lock()

    def race() -> None:
        nonlocal holders, most, taken
        for _ in range(200):
            with lease(path) as mine:
                if not mine:
                    continue
                with guard:
                    holders += 1
                    taken += 1
                    most = max(most, holders)
                with guard:
                    holders -= 1

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 0


async def test_waiting_for_a_lease_ends_when_its_holder_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genprm.store.run._POLL_SECONDS", 0.01)
    order: list[str] = []
    with RunStore(tmp_path / "run") as store, holder(tmp_path / "run" / "leases" / "work.lock") as process:
        assert first_line(process) == b"True"

        async def wait() -> None:
            async with store.leased("work"):
                order.append("leased")

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.1)
        order.append("killed")
        process.kill()
        await waiting
    assert order == ["killed", "leased"]
    assert list((tmp_path / "run" / "leases").iterdir()) == []


def test_a_file_system_without_locks_is_an_error_and_no_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(StoreError, match="cannot lock") as caught, lease(tmp_path / "a.lock"):
        pass
    assert "another" in caught.value.hint
    with pytest.raises(StoreError, match="cannot lock"), RunStore(tmp_path / "run"):
        pass


# ---------------------------------------------------------------- mandates

DRIVE = """
import sys
from pathlib import Path
from genprm.store import RunStore
with RunStore(Path(sys.argv[1]), config="c") as store, store.lease("shard") as mine, store.mandate() as mandate:
    print(mandate.path, flush=True)
    sys.stdin.read(1)
"""


def driver(run: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVE, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_mandate_holds_until_it_is_revoked_or_ends(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        with store.mandate() as mandate, store.mandate() as another:
            check_mandate(mandate.path, "one")
            mandate.revoke("one")
            with pytest.raises(StoreError, match="'one' was taken for dead"):
                check_mandate(mandate.path, "one")
            check_mandate(mandate.path, "two")
            check_mandate(another.path, "one")
        with pytest.raises(StoreError, match="the driver has ended"):
            check_mandate(mandate.path, "two")
        assert list((store.path / "leases").iterdir()) == []


@pytest.mark.parametrize("other_is_there", [False, True])
def test_the_mandate_of_a_killed_driver_ends_before_its_work_is_taken_over(
    tmp_path: Path, other_is_there: bool
) -> None:
    """Whoever takes a lease of somebody who was killed first ends what was done in his name, on other machines too."""
    run = tmp_path / "run"
    with driver(run) as process:
        path = Path(first_line(process).decode())
        if other_is_there:
            with RunStore(run, config="c") as store:
                with store.lease("shard") as mine:
                    assert not mine
                check_mandate(path, "actor")
                process.kill()
                process.wait()
                with store.lease("shard") as mine:
                    assert mine
                    with pytest.raises(StoreError, match="the driver has ended"):
                        check_mandate(path, "actor")
        else:
            process.kill()
            process.wait()
            check_mandate(path, "actor")
            with RunStore(run, config="c"), pytest.raises(StoreError, match="the driver has ended"):
                check_mandate(path, "actor")
    assert list((run / "leases").iterdir()) == []


def test_a_sweep_leaves_the_mandates_of_living_drivers(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with driver(run) as dead, contextlib.ExitStack() as stack:
        first_line(dead)  # it has the lease that the other one asks for, too
        living = stack.enter_context(driver(run))
        path = Path(first_line(living).decode())
        dead.kill()
        dead.wait()
        with RunStore(run, config="c") as store, store.lease("shard") as mine:
            assert mine
            check_mandate(path, "actor")
        living.kill()
