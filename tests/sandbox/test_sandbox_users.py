"""The same tests again: as an ordinary user, and where the kernel gives no namespaces.

The processes of each run are bounded by a pids cgroup where one can be made, and by RLIMIT_NPROC.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from genprm.sandbox.box.cgroups import Cgroup

HERE = Path(__file__).parent
UID = 54321
PROCESSES = 3000

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run_again(tests: list[str], mode: str | None) -> str:
    """Run test files as an ordinary user; returns what pytest says last."""
    command = [
        sys.executable,
        str(HERE / "as_user.py"),
        str(UID),
        str(PROCESSES),
        sys.executable,
        "-m",
        "pytest",
    ]
    command += ["-p", "no:cacheprovider", "-q", "-x", "--tb=short", *(str(HERE / test) for test in tests)]
    environment = os.environ | {"GENPRM_TEST_SANDBOX_MODE": mode} if mode else dict(os.environ)
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
        said, _ = process.communicate("go\n", timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if group is not None:
            group.remove()
    assert process.returncode == 0, said[-3000:]
    assert not any(place.exists() for place in group._places) if group else True
    return said


@root_only
def test_the_attacks_as_an_ordinary_user() -> None:
    said = run_again(["test_sandbox_attacks.py"], "namespaces")
    assert "passed" in said or "100%" in said


@root_only
@pytest.mark.slow
def test_the_semantics_as_an_ordinary_user() -> None:
    run_again(["test_sandbox_semantics.py", "test_sandbox_levels.py"], None)


@root_only
@pytest.mark.slow
def test_everything_with_landlock_alone() -> None:
    run_again(["test_sandbox_semantics.py", "test_sandbox_attacks.py"], "landlock")
