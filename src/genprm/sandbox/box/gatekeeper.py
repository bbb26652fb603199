"""Answers the gate: may this process make another one, or a thread?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from . import seccomp
from .nodes import Node
from .watch import Watch

_FRESH_SECONDS = 0.005  # a thread that was let through is among the living after this
_LINGER_SECONDS = 0.2  # a thread that has ended for Python is gone for the kernel after this
REVIEW_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class _Waiting:
    question: seccomp.Question
    node: Node
    until: float


class Gatekeeper:
    """Lets through the fork that a snapshot was told to make, and threads up to the limit of those alive.

    Who asks is suspended until there is an answer. So a thread that is one too many waits a moment, since
    one that has been joined may take that long to be gone.

    Args:
        listener: where questions arrive.
        find: the snapshot that a thread or process belongs to.
        watch: counts threads.
    """

    def __init__(self, listener: int, find: Callable[[int], Node | None], watch: Watch) -> None:
        self.listener = listener
        self._find = find
        self._watch = watch
        self._waiting: list[_Waiting] = []

    @property
    def busy(self) -> bool:
        """Whether somebody waits for `review`."""
        return bool(self._waiting)

    def on_question(self) -> None:
        """Take one question and answer it, now or later."""
        question = seccomp.receive(self.listener)
        if question is None:
            return
        node = self._find(question.pid)
        if question.kind == "thread":
            if node is None or node.run is None:
                seccomp.answer(self.listener, question, seccomp.EAGAIN)
            elif not self._admit(question, node):
                self._waiting.append(_Waiting(question, node, time.monotonic() + _LINGER_SECONDS))
        elif question.kind == "fork" and node is not None and _ordered(question, node):
            node.granted = True
            seccomp.answer(self.listener, question, 0)
        else:
            seccomp.answer(self.listener, question, seccomp.EPERM)

    def review(self) -> None:
        """Let through who waited for another thread to end; turn away who waited for long enough."""
        waiting, self._waiting = self._waiting, []
        now = time.monotonic()
        for asked in waiting:
            running = asked.node.run is not None
            if running and self._admit(asked.question, asked.node):
                continue
            if running and now < asked.until:
                self._waiting.append(asked)
            else:
                seccomp.answer(self.listener, asked.question, seccomp.EAGAIN)

    def _admit(self, question: seccomp.Question, node: Node) -> bool:
        run = node.run
        assert run is not None
        now = time.monotonic()
        # What the same thread asked for before has come to be; what others did may not be counted yet.
        run.recent = [
            (who, when) for who, when in run.recent if who != question.pid and now - when < _FRESH_SECONDS
        ]
        alive = self._watch.threads(node)
        beyond = run.threads if alive is None else alive - 1 + len(run.recent)
        if beyond >= run.limits["processes"]:
            return False
        run.threads += 1
        run.recent.append((question.pid, now))
        seccomp.answer(self.listener, question, 0)
        return True


def _ordered(question: seccomp.Question, node: Node) -> bool:
    """Whether a fork is the one that the snapshot was told to make: by its main thread, and once.

    Only the zygote, which runs no untrusted code, may try again.
    """
    told = question.pid == node.pid and bool(node.queue) and not node.asked
    return told and (node.pristine or not node.granted)
