"""The process in which math-verify runs: reads pairs of answers, writes verdicts, one JSON line each.

Started by `genprm.domains.math.grader` as `python -m genprm.domains.math.worker`, never imported by it. Before
each comparison it arms two interval timers, for CPU time and for wall time, with their *default*
actions, by which the kernel ends the process: whatever the algebra is doing, this worker does not
outlive its time, even when the parent is gone and can no longer kill it.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import signal
import sys
from typing import Any, TextIO

_DIGITS = 40
_EXACT = 1e-30
_TOLERANCE = 2e-6
# From here on, digits that were not computed may make the difference.
_HUGE = 10**30


def compare(pred: str, gold: str) -> tuple[bool | None, str]:
    """math-verify's verdict on two answers (tidied, without delimiters), and the reason of a None or False.

    A pair of parses counts as different if math-verify cannot compare it; it is unknown if a
    comparison ran out of memory or stack, as far as math-verify lets that show.
    """
    golds, preds = _parse(gold), _parse(pred)
    if not golds:
        return None, "unparsed_reference"
    if not preds:
        return False, "unparsed_prediction"
    from math_verify import verify

    try:
        numbers = _compare_numbers(preds[0], golds[0])
    except (MemoryError, RecursionError) as error:
        return None, type(error).__name__
    except Exception:  # an expression that cannot be evaluated is left to math-verify
        numbers = None
    if numbers is not None:
        return numbers, ""
    reason = ""
    for left, right in itertools.product(golds, preds):
        try:
            # The time-out by signals is off: this process is killed from outside instead.
            # An inequality and its interval are found equal in one direction only.
            for pair in ((left, right), (right, left)):
                if verify(*pair, timeout_seconds=None, raise_on_error=True):
                    return True, ""
        except (MemoryError, RecursionError) as error:
            reason = type(error).__name__
        except Exception:  # any failure of the algebra means "not shown equal", as in math-verify
            continue
    return (None, reason) if reason else (False, "")


def _compare_numbers(pred: Any, gold: Any) -> bool | None:
    """Whether two numbers are equal; None if one is no finite number.

    math-verify rounds to six places first, by which all tiny numbers are equal. Here exact numbers are compared to 30
    digits, and a decimal to six places of itself or of one; huge ones by algebra.
    """
    from sympy import Expr, Float, N, simplify

    if not all(isinstance(value, Expr) and value.is_number and value.is_finite for value in (pred, gold)):
        return None
    if pred == gold:
        return True
    left, right = N(pred, _DIGITS), N(gold, _DIGITS)
    scale, apart = max(abs(left), abs(right)), abs(N(pred - gold, _DIGITS))
    if not scale.is_finite or not apart.is_finite:
        return None
    if scale > _HUGE:
        return bool(simplify(pred - gold) == 0)
    allowed = _TOLERANCE * min(1, scale) if pred.has(Float) or gold.has(Float) else scale * _EXACT
    return bool(apart <= allowed)


def _parse(answer: str) -> list[Any]:
    from math_verify import parse

    return list(parse("\\boxed{" + answer + "}", parsing_timeout=None))


def serve(lines: TextIO, out: TextIO, cpu_seconds: float, wall_seconds: float) -> None:
    """Answer requests until the input ends."""
    for line in lines:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        signal.setitimer(signal.ITIMER_REAL, wall_seconds)
        equal, reason = compare(request["pred"], request["gold"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps({"equal": equal, "reason": reason}), file=out, flush=True)


def main() -> None:
    """Set the limits, load math-verify, say so, then serve standard input."""
    cpu_seconds, wall_seconds, memory_mb = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    # The libraries may print; only verdicts belong on the pipe to the parent.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    try:
        compare("1/2", r"\frac{2}{4}")
    except ImportError as error:
        print(json.dumps({"ready": False, "missing": error.name or "math_verify"}), file=out, flush=True)
        return
    print(json.dumps({"ready": True}), file=out, flush=True)
    serve(sys.stdin, out, cpu_seconds, wall_seconds)


if __name__ == "__main__":
    main()
