"""Landlock: untrusted code sees a list of read-only places, whatever its user may do."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence

from . import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_PATH_BENEATH = 1
_QUERY_VERSION = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # file rights are the lowest N bits


def abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    try:
        return kernel.syscall("landlock", _CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_QUERY_VERSION))
    except OSError:
        return 0


def restrict(
    readable: Iterable[str], listable: Iterable[str], devices: Iterable[str], covered: Sequence[str]
) -> int:
    """Confine this process and its future children; returns the Landlock version, raises `OSError`.

    Args:
        readable: files and directories that may be read.
        listable: directories of which only the names may be read.
        devices: files that may be read and written.
        covered: directories under `readable` that may not be read.
    """
    version = abi()
    if not version:
        raise OSError(95, "the kernel has no Landlock, or has it switched off")
    handled = (1 << _RIGHTS_BY_ABI.get(version, 16)) - 1
    network = 0b11 if version >= 4 else 0  # TCP bind and connect
    scoped = 0b11 if version >= 6 else 0  # abstract unix sockets and signals
    attributes = struct.pack("=QQQ", handled, network, scoped)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = kernel.syscall(
        "landlock_create_ruleset", _CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0)
    )
    try:
        for path in (part for place in readable for part in _without(place, covered)):
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in listable:
            _allow(ruleset, path, _READ_DIR)
        for path in devices:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
        kernel.syscall("landlock_restrict_self", _RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
    return version


def _without(place: str, covered: Sequence[str]) -> Iterator[str]:
    """The fewest places that hold all of `place` but what is covered: rules only ever allow, with all below."""
    if place in covered:
        return
    if not any(hole.startswith(place + "/") for hole in covered):
        yield place
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if not entry.is_symlink():  # what it points to has its own right to be read, or none
                yield from _without(entry.path, covered)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= ~_READ_DIR
        rule = struct.pack("=Qi", rights, place)
        kernel.syscall(
            f"landlock_add_rule {path}",
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            rule,
            ctypes.c_uint(0),
        )
    finally:
        os.close(place)
