"""Sees that processes which have ended are forgotten, and that none lives which nobody knows."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Container

from . import zygote
from .nodes import Node
from .procfs import Procfs

_COLLECT_SECONDS = 0.2
_SUSPICION_SECONDS = 2.0
_SUSPICIOUS_PAUSE = 0.02


class Reaper:
    """The supervisor's own children are collected here, the zygote's by itself when it is woken.

    Args:
        root: the zygote.
        proc: shows the supervisor's children; None where the kernel does not.
    """

    def __init__(self, root: Node, proc: Procfs | None) -> None:
        self._root = root
        self._proc = proc
        self._collecting = False
        self._last_end = self._woken = self._suspicious_until = 0.0

    def expect(self) -> None:
        """A snapshot was killed or has ended."""
        self._collecting, self._last_end = True, time.monotonic()

    def suspect(self) -> None:
        """A snapshot may have made a process that nobody knows; it is adopted here when its parent dies."""
        self._suspicious_until = time.monotonic() + _SUSPICION_SECONDS

    def pause(self, *, crowded: bool) -> float | None:
        """How long there is nothing to do; None until the next event."""
        if time.monotonic() < self._suspicious_until:
            return _SUSPICIOUS_PAUSE
        return self._patience(crowded) if self._collecting else None

    def work(self, known: Container[int], *, crowded: bool) -> None:
        """Collect what has ended; kill children of this process that are not among the known ones."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        now = time.monotonic()
        if now < self._suspicious_until and self._proc is not None:
            for pid in self._proc.children():
                if pid not in known:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        if self._collecting and not self._root.queue and now - self._woken > self._patience(crowded):
            self._woken = now
            self._collecting = now - self._last_end < _COLLECT_SECONDS
            self._root.sock.send(zygote.WAKE)

    @staticmethod
    def _patience(crowded: bool) -> float:
        return _COLLECT_SECONDS / 10 if crowded else _COLLECT_SECONDS
