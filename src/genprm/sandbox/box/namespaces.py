"""Level 2: a root of its own, holding the interpreter's libraries read-only and nothing else.

As root the namespaces are made first and the user is dropped afterwards; an ordinary user makes a
user namespace, uses its capabilities to build the root, and gives them up.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import kernel

_INNER = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
_MOUNT_POINTS = ("/mnt", "/media", "/srv", "/var/tmp", "/tmp", "/opt", "/var/lib", "/home")
HOST_NAME = "box"
_SHAPE = "mode=755,size=1m,nr_inodes=4096"
NOBODY = 65534
_UID_BASE = 0x70000000  # far from any account; plus a random number, so that no two boxes share one


def prepare() -> None:
    """Have the next child be process 1 of a new pid namespace. This process keeps its view of the files."""
    if os.geteuid() == 0:
        kernel.unshare(kernel.CLONE_NEWPID)
        return
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWPID | kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def build_root(binds: Mapping[str, str], covered: Sequence[str]) -> int | None:
    """Move into a new root that holds `binds` (place in the new root -> source), all of it read-only.

    Leaves the host's mount, network, IPC and host name namespaces first. Directories in `covered` are empty
    in the new root.

    Returns:
        A descriptor of a procfs of this pid namespace that is mounted nowhere; None where the kernel
        gives none (inside containers that hide parts of their own).
    """
    kernel.unshare(_INNER)
    kernel.set_host_name(HOST_NAME)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    base = _mount_point(list(binds.values()))
    kernel.mount("genprm", base, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _SHAPE)
    for place, source in binds.items():
        target = Path(base + place)
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        kernel.mount(source, str(target), None, kernel.MS_BIND | kernel.MS_REC)
    for place in covered:
        if Path(base + place).is_dir():
            kernel.mount("genprm", base + place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _SHAPE)
    for name in ("bin", "sbin", "lib", "lib64", "lib32"):
        link = Path("/") / name
        if link.is_symlink() and not (Path(base) / name).exists():
            (Path(base) / name).symlink_to(link.readlink())
    Path(base, "tmp").mkdir(exist_ok=True)
    proc = _detached_proc(Path(base, "tmp"))
    kernel.read_only(base)
    kernel.change_root(base)
    return proc


def _detached_proc(place: Path) -> int | None:
    try:
        kernel.mount("proc", str(place), "proc", kernel.MS_NOSUID | kernel.MS_NODEV)
    except OSError:
        return None
    try:
        return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        kernel.unmount(str(place))


def _mount_point(sources: Sequence[str]) -> str:
    for candidate in _MOUNT_POINTS:
        covers = any(source == candidate or source.startswith(candidate + "/") for source in sources)
        if Path(candidate).is_dir() and not covers:
            return candidate
    raise OSError(2, "no directory to mount the new root on that holds nothing the box needs")


def closed_directory(places: Sequence[str]) -> Path | None:
    """A directory on the way to `places` that not every user may enter; None where there is none."""
    for place in places:
        for directory in Path(place).resolve().parents:
            if not directory.stat().st_mode & stat.S_IXOTH:
                return directory
    return None


def drop_user() -> None:
    """Stop being root on the host: a user id that nothing else has, or `nobody` where ids are few."""
    if os.geteuid() == 0:
        os.setgroups([])
        own = _UID_BASE + int.from_bytes(os.urandom(3), "big")
        for number in (own, NOBODY):
            try:
                os.setresgid(number, number, number)
                os.setresuid(number, number, number)
                break
            except OSError:
                continue
    if 0 in os.getresuid():
        raise OSError(1, "cannot stop being root: no other user id is mapped here")
    kernel.drop_capabilities()
