"""Accuracy of answers: Pass@1 and related shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genprm.evals.intervals import mean_share, plain_share
from genprm.records import Share

_UNGRADED = "no answer could be graded"


def share_correct(correct: Iterable[bool | None]) -> Share:
    """Share of right answers to independent problems.

    An answer that could not be graded (None) is in neither part of the share; `share_ungraded` reports it.
    """
    known = [flag for flag in correct if flag is not None]
    return plain_share(sum(known), len(known), _UNGRADED)


def share_ungraded(correct: Iterable[bool | None]) -> Share:
    """Share of answers that could not be graded."""
    flags = list(correct)
    return plain_share(sum(flag is None for flag in flags), len(flags), "there are no answers")


def pass_at_1(problems: Sequence[Sequence[bool | None]], *, seed: int = 0) -> Share:
    """Mean over problems of the share of their graded samples that are right; the interval is over problems.

    Problems without a graded sample are left out.
    """
    graded = [known for flags in problems if (known := [flag for flag in flags if flag is not None])]
    shares = [sum(flags) / len(flags) for flags in graded]
    return mean_share(shares, seed=seed, reason=_UNGRADED)


def pass_at_n(problems: Sequence[Sequence[bool | None]]) -> Share:
    """Share of problems with a right answer among all their samples (an oracle's choice).

    A problem without a right answer counts as wrong only when every sample was graded; otherwise it is left
    out, like one without samples.
    """
    return share_correct(_any(flags) for flags in problems if flags)


def _any(flags: Sequence[bool | None]) -> bool | None:
    if any(flags):
        return True
    return None if None in flags else False
