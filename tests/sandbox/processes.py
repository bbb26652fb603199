"""Looks at the processes of a box from outside."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from genprm.sandbox import IsolatedSandbox


def descendants(root: int) -> set[int]:
    """All processes below one, itself not included."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        todo += below
        found.update(below)
    return found


def _stat(pid: int) -> list[str]:
    """The fields of a process from its state on; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def launchers(sandbox: IsolatedSandbox) -> list[int]:
    return [worker._launcher.pid for worker in sandbox._workers]


def of(sandbox: IsolatedSandbox) -> set[int]:
    """The living processes of a sandbox, its launchers not included."""
    found = set().union(*(descendants(launcher) for launcher in launchers(sandbox)))
    return {pid for pid in found if state(pid) not in "ZX"}


def state(pid: int) -> str:
    """The letter that the kernel gives a process's state; X where it is gone."""
    return (_stat(pid) or ["X"])[0]


def cpu_ticks(pid: int) -> int:
    return sum(int(field) for field in _stat(pid)[11:13])


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def settle(
    sandbox: IsolatedSandbox, expected: set[int], most: int = 0, seconds: float = 3.0
) -> set[int]:
    """The processes beyond `expected`, once they are at most `most` or time is up."""
    end = time.monotonic() + seconds
    while len(left := of(sandbox) - expected) > most and time.monotonic() < end:
        await asyncio.sleep(0.01)
    return left
