"""Finds out by trying what the isolation holds, and names the level that follows.

Nothing is taken from version numbers or from the fact that a call succeeded: canaries run as untrusted
code in the finished box and try what must fail.
"""

from __future__ import annotations

from pathlib import Path

from genprm.sandbox.base import IsolationReport, Limits, Status
from genprm.sandbox.worker import ROOT, SnapshotLost, Worker

_HOME = str(Path.home())

# name -> code that prints "held" where the attempt failed as it should.
_CANARIES: dict[str, str] = {
    "files": """
import os
held = True
for path in ("/etc/passwd", "/etc/hostname", "/proc/self/environ", {home!r}):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).close()
        held = False
    except OSError:
        pass
for path in ("/tmp/genprm-canary", "/dev/shm/genprm-canary", "genprm-canary"):
    try:
        open(path, "x").close()
        os.unlink(path)
        held = False
    except OSError:
        pass
print("held" if held else "open")
""",
    "network": """
import socket
held = True
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        with socket.socket(socket.AF_INET, kind) as s:
            s.bind(("127.0.0.1", 0))
        held = False
    except OSError:
        pass
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
try:
    left.sendto(b"x", "\\0genprm-canary")
    held = False
except PermissionError:
    pass
except OSError:
    held = False
print("held" if held else "open")
""",
    "processes": """
import os
held = True
try:
    if os.fork() == 0:
        os._exit(0)
    held = False
except OSError:
    pass
try:
    os.kill(os.getppid(), 0)
    held = False
except OSError:
    pass
print("held" if held else "open")
""",
    "privileges": """
import ctypes, os
libc = ctypes.CDLL(None)
held = 0 not in os.getresuid()
held = held and libc.unshare(0x10000000) == -1 and libc.setuid(0) == -1 and libc.ptrace(0, 0, 0, 0) == -1
print("held" if held else "open")
""",
    "rlimits": """
try:
    x = bytearray({memory})
    print("open")
except MemoryError:
    print("held")
""",
    "shared memory": """
import mmap
try:
    mmap.mmap(-1, 4096)
    print("open")
except OSError:
    print("held")
""",
    "environment": """
import os
print("held" if not set(os.environ) - {{"LANG", "LC_CTYPE", "PYTHONHASHSEED", "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS"}} else "open")
""",
}


async def examine(worker: Worker, reasons: tuple[str, ...] = ()) -> IsolationReport:
    """Run the canaries in a new box and tell the level reached, with the reasons for not more."""
    limits = Limits(soft_seconds=10, hard_seconds=12)
    found: dict[str, bool] = {}
    for name, text in _CANARIES.items():
        code = text.format(home=_HOME, memory=worker.memory_mb << 20)
        try:
            number, result = await worker.execute(ROOT, code, limits, 0)
        except SnapshotLost:
            found[name] = False
            continue
        found[name] = result.status is Status.OK and result.stdout.strip() == "held"
        if number is not None:
            worker.drop(number)
    return _grade(worker, found, list(reasons))


def _grade(worker: Worker, found: dict[str, bool], reasons: list[str]) -> IsolationReport:
    facts = worker.facts
    mechanisms = {
        "pid namespace": facts["supervisor_pid"] == 1,
        "mount namespace": facts["mode"] == "namespaces",
        "network namespace": set(facts["interfaces"]) <= {"lo"} and facts["mode"] == "namespaces",
        "non-root user": facts["uid"] != 0,
        "landlock": facts["landlock"] > 0,
        "seccomp": bool(facts["seccomp"]),
        "process gate": bool(facts["gate"]),
        "cgroup": bool(facts["cgroup"]),
        "memory watch": bool(facts["watch"]),
    } | {f"canary: {name}": held for name, held in found.items()}
    for name in ("landlock", "seccomp", "cgroup"):
        if facts.get(f"{name}_reason"):
            reasons.append(f"{name}: {facts[name + '_reason']}")
    if not mechanisms["memory watch"]:
        reasons.append("memory watch: the kernel shows no /proc of the box's own processes")
    reasons += [f"the canary '{name}' was not held back" for name, held in found.items() if not held]
    confined = all(found.values()) and mechanisms["seccomp"] and mechanisms["process gate"]
    confined = confined and mechanisms["non-root user"]
    confined = confined and (mechanisms["cgroup"] or mechanisms["memory watch"])
    spaces = all(mechanisms[name] for name in ("pid namespace", "mount namespace", "network namespace"))
    if not confined or not (mechanisms["landlock"] or spaces):
        level = 0
    elif not (spaces and mechanisms["landlock"]):
        level = 1
    else:
        level = 3 if mechanisms["cgroup"] else 2
    return IsolationReport(level, mechanisms, tuple(reasons))
