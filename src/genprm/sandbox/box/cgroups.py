"""Level 3: memory and process bounds for the whole box, where a cgroup can be made (version 1 or 2)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import ClassVar

_PREFIX = "genprm-box-"
_REMOVAL_SECONDS = 10.0
"""Less than a host waits for its box to end, which is then killed."""


class Cgroup:
    """Directories in the cgroup file systems, removed when the box ends."""

    reason: ClassVar[str] = ""

    def __init__(self, places: list[Path]) -> None:
        self._places = places

    @classmethod
    def make(cls, memory_mb: int, pids: int) -> Cgroup | None:
        """A group with these bounds, or None with the cause in `Cgroup.reason`."""
        name = f"{_PREFIX}{os.getpid()}"
        memory = memory_mb << 20
        made: list[Path] = []
        try:
            own = _own_groups()
            if "memory" in own and "pids" in own:
                made.append(_create(own["memory"], name, {"memory.limit_in_bytes": memory}))
                made.append(_create(own["pids"], name, {"pids.max": pids}))
            elif "" in own:
                made.append(_create(own[""], name, {"memory.max": memory, "pids.max": pids}))
            else:
                cls.reason = "no memory and pids cgroup controllers are mounted"
                return None
        except OSError as error:
            cls(made).remove()
            cls.reason = f"cannot make a cgroup: {error.strerror} ({error.filename})"
            return None
        return cls(made)

    def add(self, pid: int) -> None:
        """Move a process in; its future children follow."""
        for place in self._places:
            (place / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the directories; the kernel may need a moment to notice that the processes are gone.

        On a busy machine, with much memory to give back, that moment was seen to be longer than a second.
        """
        end = time.monotonic() + _REMOVAL_SECONDS
        for place in self._places:
            while True:
                try:
                    place.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > end:
                        break
                    time.sleep(0.005)


def _create(parent: Path, name: str, values: dict[str, int]) -> Path:
    _sweep(parent)
    place = parent / name
    place.mkdir()
    try:
        for key, value in values.items():
            (place / key).write_text(str(value))
        if "memory.max" in values:
            with contextlib.suppress(OSError):
                (place / "memory.swap.max").write_text("0")
    except OSError:
        place.rmdir()
        raise
    return place


def _sweep(parent: Path) -> None:
    """Remove what boxes left behind whose launcher was itself killed."""
    for place in parent.glob(_PREFIX + "*"):
        if not Path("/proc", place.name.removeprefix(_PREFIX)).exists():
            with contextlib.suppress(OSError):
                place.rmdir()


def _own_groups() -> dict[str, Path]:
    """Where new groups can be made: controller -> directory (version 1), "" -> directory (version 2)."""
    mounts: dict[str, str] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts[""] = point
        elif kind == "cgroup":
            mounts.update((option, point) for option in options.split(",") if option in ("memory", "pids"))
    found: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                found[controller] = _existing(Path(mounts[controller] + path), Path(mounts[controller]))
    if "" in found:
        found[""] = _delegating(found[""], Path(mounts[""]))
    return found


def _existing(place: Path, root: Path) -> Path:
    """The directory itself; the mount's root where it lies outside this cgroup namespace."""
    return place if place.is_dir() else root


def _delegating(place: Path, root: Path) -> Path:
    """The nearest group, from here upwards, that hands memory and pids down to its children."""
    while True:
        with contextlib.suppress(OSError):
            handed = (place / "cgroup.subtree_control").read_text().split()
            if "memory" in handed and "pids" in handed:
                return place
        if place == root:
            return place
        place = place.parent
