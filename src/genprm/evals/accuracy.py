"""Accuracy of answers: Pass@1 and related shares, in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genprm.evals.metrics import percent


def share_correct(correct: Iterable[bool | None]) -> float | None:
    """Share of right answers in percent; None where there is nothing to count.

    An answer that could not be graded is in neither part of the share; `share_ungraded` reports it.
    """
    known = [flag for flag in correct if flag is not None]
    return percent(sum(known), len(known))


def share_ungraded(correct: Iterable[bool | None]) -> float | None:
    """Share of answers that could not be graded, in percent."""
    flags = list(correct)
    return percent(sum(flag is None for flag in flags), len(flags))


def pass_at_1(problems: Sequence[Sequence[bool | None]]) -> float | None:
    """Mean over problems of the share of their graded samples that are right, in percent.

    Problems without a graded sample are left out.
    """
    shares = [share for flags in problems if (share := share_correct(flags)) is not None]
    return sum(shares) / len(shares) if shares else None


def pass_at_n(problems: Sequence[Sequence[bool | None]]) -> float | None:
    """Share of problems with a right answer among all their samples (an oracle's choice), in percent.

    A problem without a right answer counts as wrong only where every sample was graded; else it is
    left out, like one without samples.
    """
    return share_correct(_any(flags) for flags in problems if flags)


def _any(flags: Sequence[bool | None]) -> bool | None:
    if any(flags):
        return True
    return None if None in flags else False
