"""The system calls that Python has no function for, through ctypes (Python 3.11 has no `os.unshare`)."""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)

MACHINE = os.uname().machine  # not by `platform`, which remembers the host's name

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_NOSUID = 0x2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_MADV_COLLAPSE = 25

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SYS_MOUNT_SETATTR = 442
_CAPABILITY_VERSION_3 = 0x20080522


def _checked(result: int, what: str) -> int:
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def syscall(what: str, number: int, *args: object) -> int:
    """A raw system call; raises `OSError` that starts with `what`."""
    return _checked(int(_libc.syscall(ctypes.c_long(number), *args)), what)


def unshare(flags: int) -> None:
    """Leave the named namespaces for new ones."""
    _checked(_libc.unshare(flags), "unshare")


def set_host_name(name: str) -> None:
    """Name the host in this UTS namespace; its domain has none."""
    _checked(_libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "sethostname")
    _checked(_libc.setdomainname(b"", ctypes.c_size_t(0)), "setdomainname")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _checked(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take a mount out of sight; what has it open keeps it."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"umount2 {target}")


def read_only(target: str) -> None:
    """Make a mount and everything mounted under it read-only and deaf to set-uid bits."""

    class Attributes(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]

    wanted = Attributes(_MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    syscall(
        f"mount_setattr {target}",
        _SYS_MOUNT_SETATTR,
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )


def change_root(new_root: str) -> None:
    """Make `new_root`, a mount point, the root, and let go of everything outside it."""
    os.chdir(new_root)
    # Old and new root in one place: the old one ends up on top, where it can be detached at once.
    syscall("pivot_root", _SYS_PIVOT_ROOT[MACHINE], b".", b".")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount2 of the old root")
    os.chdir("/")


def collapse(address: int, length: int) -> None:
    """Replace the pages of an aligned area by huge ones, now."""
    result = _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), _MADV_COLLAPSE)
    _checked(result, "madvise")


def prctl(option: int, argument: int = 0) -> int:
    """prctl(2) with one argument."""
    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero), f"prctl {option}")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper() -> None:
    """Adopt orphaned descendants instead of leaving them to the init process."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """Promise that no later exec gains privileges; seccomp and Landlock ask for it."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_dumps() -> None:
    """No core dumps, and no ptrace or /proc access by processes of the same user."""
    prctl(_PR_SET_DUMPABLE, 0)


def permit_inspection() -> None:
    """Let processes of the same user look at this one in /proc, which `forbid_dumps` had ruled out."""
    prctl(_PR_SET_DUMPABLE, 1)


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3) == -1:
            break  # past the last one, or not allowed to: the empty sets below are what counts
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), *[ctypes.c_ulong(0)] * 3)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    empty = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(empty)), "capset")


def seccomp(operation: int, flags: int, argument: object) -> int:
    """seccomp(2); raises `OSError` where the architecture or the kernel lacks it."""
    number = _SYS_SECCOMP.get(MACHINE)
    if number is None:
        raise OSError(38, f"no seccomp table for the architecture {MACHINE}")
    return syscall("seccomp", number, ctypes.c_uint(operation), ctypes.c_uint(flags), argument)
