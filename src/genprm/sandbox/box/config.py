"""What the host tells the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Config:
    """What the host tells the launcher, as one JSON argument.

    Attributes:
        fd: the socket to the host.
        host_pid: the host's process id.
        mode: `namespaces`, `landlock` or `rlimits`: the most that is tried.
        tier: the import tier.
        binds: read-only places of the box: place -> source on the host.
        path: `sys.path` inside the box.
        limits: hard limits of every process in the box (the host's `Limits` as a dict).
        memory_mb: memory of all snapshots together, beyond the zygote's own.
        processes: most processes and threads in the box.
    """

    fd: int
    host_pid: int
    mode: str
    tier: str
    binds: dict[str, str]
    path: list[str]
    limits: dict[str, Any]
    memory_mb: int
    processes: int
