"""Puts a warmed zygote's heap on huge pages: a fork then copies a thirtieth of the page tables."""

from __future__ import annotations

import contextlib
import os

from . import kernel

_SIZE = 2 << 20


def collapse(proc: int) -> int:
    """Join what can be joined of this process's writable memory; returns the number of huge pages made.

    Args:
        proc: a descriptor of the host's /proc, which the box itself does not have.
    """
    maps = os.open("self/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with os.fdopen(maps, encoding="ascii", errors="replace") as lines:
        areas = [line.split() for line in lines]
    made = 0
    for area in areas:
        if area[1] != "rw-p" or (len(area) > 5 and area[5] != "[heap]"):
            continue
        begin, end = (int(address, 16) for address in area[0].split("-"))
        for address in range(-(-begin // _SIZE) * _SIZE, end - _SIZE + 1, _SIZE):
            # A hole, or a kernel before 6.1: the page stays as it is and costs what it did.
            with contextlib.suppress(OSError):
                kernel.collapse(address, _SIZE)
                made += 1
    return made
