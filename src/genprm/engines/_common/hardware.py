"""What this machine offers a model, found out without loading torch: cores, memory, GPUs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PROC = Path("/proc")
_SYS = Path("/sys")
_NO_LIMIT = 1 << 60
"""Control groups of the first version write "no limit" as a number near 2**63."""


def physical_cores() -> int:
    """Cores that this process may use at the same time, at least 1.

    Two threads of one core count once, cores outside the process's affinity do not count, and a quota of CPU time
    that a container sets is an upper bound.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = {_core_of(number) for number in allowed}
    quota = _cpu_quota()
    return max(1, len(cores) if quota is None else min(len(cores), int(quota)))


def free_memory() -> int | None:
    """Bytes that new processes can take without swapping, within the container's limit; None if not known."""
    found = [size for size in (_available(), _left_in_group()) if size is not None]
    return min(found) if found else None


def gpus() -> int:
    """How many GPUs of NVIDIA or AMD this process can see, going by their device files."""
    hidden = {os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")}
    if hidden & {"", "-1"}:
        return 0
    nvidia = len(list(Path("/dev").glob("nvidia[0-9]*")))
    nodes = (_SYS / "class/kfd/kfd/topology/nodes").glob("*/gpu_id")
    amd = sum(_text(node) not in (None, "0") for node in nodes)
    return nvidia + amd


def _core_of(number: int) -> tuple[str, str]:
    """The package and the core of a logical CPU; a CPU of which nothing is known is a core of its own."""
    topology = _SYS / f"devices/system/cpu/cpu{number}/topology"
    package, core = _text(topology / "physical_package_id"), _text(topology / "core_id")
    if package is None or core is None:
        return "cpu", str(number)
    return package, core


def _cpu_quota() -> float | None:
    """Cores' worth of CPU time that control groups allow; None without a limit."""
    quotas = []
    for folder in _groups("cpu"):
        parts = (_text(folder / "cpu.max") or "").split()
        if len(parts) != 2:
            parts = [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
        with contextlib.suppress(ValueError, ZeroDivisionError):  # "max" is no number
            quotas.append(int(parts[0]) / int(parts[1]))
    return min((quota for quota in quotas if quota > 0), default=None)


def _available() -> int | None:
    for line in (_text(_PROC / "meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _left_in_group() -> int | None:
    """Bytes left below the tightest memory limit of a control group; file cache that can be dropped is free."""
    left = []
    for folder in _groups("memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None and limit < _NO_LIMIT:
                left.append(max(0, limit - used + _inactive_files(folder)))
    return min(left, default=None)


def _inactive_files(folder: Path) -> int:
    for line in (_text(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _groups(controller: str) -> list[Path]:
    """Folders of this process's control groups for a controller, up to the root, of either version."""
    found = []
    for line in (_text(_PROC / "self/cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root = _SYS / "fs/cgroup"
        elif controller in controllers.split(","):
            root = _SYS / "fs/cgroup" / controller
        else:
            continue
        folder = root / path.lstrip("/")
        # In a container the path may be that of the host; then the root is the container's own group.
        found += [one for one in (folder, *folder.parents) if one.is_relative_to(root) and one.is_dir()]
    return found


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
