"""The same tests again: as an ordinary user, where the kernel gives no namespaces, and on other interpreters.

As root they run at level 3, as an ordinary user at level 2, and at level 1 by Landlock alone as both.

The processes of each run are bounded by a pids cgroup where one can be made, and by RLIMIT_NPROC.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interpreters import interpreter

import genprm
from genprm.sandbox.box.cgroups import Cgroup

HERE = Path(__file__).parent
UID = 54321
PROCESSES = 3000

pytestmark = pytest.mark.slow
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


# What is asserted at every level: what is shared, what is known of the host, what remains,
# replays, and the first attack list.
KINDS = ["test_sandbox_shared.py", "test_sandbox_host.py", "test_sandbox_remains.py"]
EVERYTHING = [
    *KINDS,
    "test_sandbox_attacks.py",
    "test_sandbox_limits.py",
    "test_sandbox_owners.py",
    "test_sandbox_replay.py",
]


def run_again(tests: list[str], mode: str | None, uid: int = UID, python: str = sys.executable) -> str:
    """Run test files as another user, or with another interpreter; returns what pytest says."""
    command = [python, str(HERE / "as_user.py"), str(uid), str(PROCESSES), python, "-m", "pytest"]
    command += ["-p", "no:cacheprovider", "-q", "-x", "--tb=short", *(str(HERE / test) for test in tests)]
    environment = os.environ | {"PYTHONPATH": str(Path(genprm.__file__).parents[1])}
    environment |= {"GENPRM_TEST_SANDBOX_MODE": mode} if mode else {}
    group = Cgroup.make(8192, PROCESSES)

    process = subprocess.Popen(
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        if group is not None:
            group.add(process.pid)
        said, _ = process.communicate("go\n", timeout=900)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if group is not None:
            group.remove()
    assert process.returncode == 0, said[-3000:]
    assert group is None or _removed(group)
    return said


def _removed(group: Cgroup) -> bool:
    """Whether nothing is left in a group: the groups of killed boxes inside it may be, processes may not."""
    deadline = time.monotonic() + 10
    while (left := [place for place in group._places if place.exists()]) and time.monotonic() < deadline:
        for place in left:
            for inner in (*sorted((one for one in place.rglob("*") if one.is_dir()), reverse=True), place):
                # The kernel needs a moment to notice that nobody is in it.
                with contextlib.suppress(OSError):
                    inner.rmdir()
        time.sleep(0.05)
    return not left


@root_only
@pytest.mark.parametrize(
    ("uid", "mode"),
    [
        pytest.param(UID, "namespaces", id="level 2, an ordinary user"),
        pytest.param(UID, "landlock", id="level 1, an ordinary user"),
        pytest.param(0, "landlock", id="level 1, root"),
    ],
)
def test_the_promises_as_every_user_at_every_level(uid: int, mode: str) -> None:
    said = run_again(EVERYTHING, mode, uid)
    assert "passed" in said or "100%" in said


@root_only
@pytest.mark.parametrize(("minor", "uid"), [(11, UID), (12, 0), (13, UID)])
def test_the_promises_on_every_interpreter(minor: int, uid: int) -> None:
    """As one user each, for the time that it takes; each way of isolating is tried."""
    python, reason = interpreter(minor)
    if python is None:
        pytest.skip(reason)
    said = run_again([*KINDS, "test_sandbox_attacks.py", "test_sandbox_replay.py"], None, uid, python)
    assert "passed" in said or "100%" in said


@root_only
@pytest.mark.parametrize("mode", [None, "landlock"])
def test_the_semantics_as_an_ordinary_user(mode: str | None) -> None:
    said = run_again(["test_sandbox_semantics.py", *([] if mode else ["test_sandbox_levels.py"])], mode)
    assert "passed" in said or "100%" in said
