"""Runs a command as an ordinary user, in a mount namespace where that user can reach this interpreter.

    python as_user.py UID PROCESSES COMMAND...

It waits for a line of input first, so that the caller can put it into a cgroup.

An interpreter under a home directory that only root may enter is out of an ordinary user's reach; here
each such directory is covered by one that holds nothing but the way to the interpreter.
"""

from __future__ import annotations

import os
import resource
import stat
import sys
import tempfile
from pathlib import Path

from genprm.sandbox.box import kernel


def closed_directory(path: Path) -> Path | None:
    """The first directory on the way to `path` that others may not enter."""
    for place in reversed(path.parents):
        if not place.stat().st_mode & stat.S_IXOTH:
            return place
    return None


def open_way(path: Path) -> None:
    place = closed_directory(path)
    if place is None:
        return
    inner = place / path.relative_to(place).parts[0]
    keep = tempfile.mkdtemp(dir="/var/tmp")
    kernel.mount(str(inner), keep, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("cover", str(place), "tmpfs", 0, "mode=755")
    inner.mkdir()
    kernel.mount(keep, str(inner), None, kernel.MS_BIND | kernel.MS_REC)
    kernel.unmount(keep)
    Path(keep).rmdir()


def main() -> None:
    uid, most, *command = sys.argv[1:]
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_NPROC, (int(most), int(most)))
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    for path in {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve()}:
        open_way(path)
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    os.environ["HOME"] = "/nonexistent"
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
