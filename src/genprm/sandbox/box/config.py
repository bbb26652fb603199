"""What the host tells the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Config:
    """What the host tells the launcher.

    Attributes:
        host_pid: the host's process id.
        mode: `namespaces`, `landlock` or `rlimits`: the most that is tried.
        tier: the import tier.
        binds: read-only places of the box: place -> source on the host.
        covered: directories under those places that hold other people's packages: out of the box's sight.
        path: `sys.path` inside the box.
        limits: hard limits of every process in the box (the host's `Limits` as a dict).
        memory_mb: memory of all snapshots together, beyond the zygote's own.
        processes: most processes and threads in the box.
    """

    host_pid: int
    mode: str
    tier: str
    binds: dict[str, str]
    covered: list[str]
    path: list[str]
    limits: dict[str, Any]
    memory_mb: int
    processes: int
