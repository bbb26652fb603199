"""Runs one snippet inside a snapshot process. From its first line on, nothing here is trusted.

Semantics: the namespace starts empty (`__name__` is not `__main__`) and is kept; only standard output
is taken; an exception, SystemExit included, is reported and what was assigned before it stays;
`input()` finds the end of the file; integers print at any length; a syntax error names the file `<string>`;
each snippet starts with the original builtins and streams.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import io
import mmap
import resource
import signal
import sys
from typing import Any

from .frames import Outcome, encode_outcome

_LIVE_BUILTINS = vars(builtins)
_BUILTINS = dict(_LIVE_BUILTINS)
_BUILTINS["exit"] = _sitebuiltins.Quitter("exit", "Ctrl-D")
_BUILTINS["quit"] = _sitebuiltins.Quitter("quit", "Ctrl-D")
_RECURSION_LIMIT = sys.getrecursionlimit()
_RESERVE = 16 << 20  # address space for what has to be done behind a snippet that used up all it was given
_NAME = vars(type)["__name__"].__get__
_NO_MEMORY = Outcome("error", "MemoryError", "earlier code has left too little memory to run any more")


class _SoftLimit(TimeoutError):
    """Raised inside the code when its soft limit passes."""


_SoftLimit.__name__ = _SoftLimit.__qualname__ = "TimeoutError"


def _on_alarm(*_: object) -> None:
    raise _SoftLimit("time limit reached")


def _reset() -> io.TextIOWrapper:
    """Undo what an earlier snippet may have done to builtins, streams and signals."""
    if _LIVE_BUILTINS != _BUILTINS:
        _LIVE_BUILTINS.clear()
        _LIVE_BUILTINS.update(_BUILTINS)
    out = io.TextIOWrapper(
        io.FileIO(1, "w", closefd=False), "utf-8", "backslashreplace", write_through=False
    )
    sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(  # type: ignore[misc]
        io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True
    )
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")  # type: ignore[misc]
    sys.displayhook, sys.excepthook = sys.__displayhook__, sys.__excepthook__
    sys.settrace(None)
    sys.setprofile(None)
    sys.setrecursionlimit(_RECURSION_LIMIT)
    sys.set_int_max_str_digits(0)  # integers of any length print; the time limit bounds what that costs
    signal.signal(signal.SIGALRM, _on_alarm)
    return out


def execute(code: bytes, soft_seconds: float, namespace: dict[str, Any]) -> bytes:
    """Run a snippet in a namespace; returns the outcome's datagram."""
    try:
        reserve = mmap.mmap(-1, _RESERVE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        out = _reset()
    except (OSError, MemoryError):
        return encode_outcome(_NO_MEMORY)
    try:
        failure = _run(code, soft_seconds, namespace)
    except _SoftLimit as late:  # at the very moment at which the code ended
        failure = late
    reserve.close()
    try:
        outcome = _describe(failure)
        out.flush()
    except BaseException as error:
        outcome = Outcome("error", _name(error), "while the exception was being described")
    del failure
    return encode_outcome(outcome)


def _run(code: bytes, soft_seconds: float, namespace: dict[str, Any]) -> BaseException | None:
    """Run a snippet; returns what it raised.

    Kept short on purpose. Entering a handler, CPython notes its place in the bytecode as an integer. From 257 on
    that takes memory, and where there is none it tries again for ever.
    """
    try:
        signal.setitimer(signal.ITIMER_REAL, soft_seconds)
        exec(compile(code.decode("utf-8", "surrogatepass"), "<string>", "exec"), namespace)
        sys.stdout.flush()
    except BaseException as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _name(error: BaseException) -> str:
    """The name of its class, not what a metaclass says that it is."""
    return str.__str__(_NAME(type(error)))


def _describe(failure: BaseException | None) -> Outcome:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if failure is None:
        return Outcome("ok", None, None, peak)
    if isinstance(failure, _SoftLimit):
        return Outcome("timeout", None, None, peak)
    signal.setitimer(signal.ITIMER_REAL, 1.0)  # a message may be computed by the code's own __str__
    try:
        return Outcome("error", _name(failure), str.__str__(str(failure)), peak)  # a plain text
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
