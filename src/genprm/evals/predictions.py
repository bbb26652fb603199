"""Predicted first errors, read off verifications, and votes on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from genprm.records import Verification, VoteStatus
from genprm.rewards import first_error_of_path

FAILED: Final = "failed"
Prediction: TypeAlias = int | Literal["failed"] | None
"""The index of the first wrong step or NO_ERROR; None when no judgement could be read, which is the verifier's own
miss; FAILED when an engine or a sandbox failed, which says nothing about the verifier."""

_FAULTS = frozenset({VoteStatus.ENGINE_FAILED, VoteStatus.SANDBOX_FAILED})


def prediction(verification: Verification) -> Prediction:
    """The first error by the mean reward of all paths; FAILED when the first missing verdict failed."""
    if verification.first_error is not None:
        return verification.first_error
    missing = next((one for one in verification.verdicts if one.judgement is None), None)
    return FAILED if missing is not None and missing.status == "failed" else None


def prediction_of_path(verification: Verification, path: int, threshold: float = 0.5) -> Prediction:
    """The first error as one path alone sees it; FAILED when the first vote that it lost was lost to a fault.

    Needs a verification in which every path continued to its own first error (`every_path_to_its_error`); a path
    that was stopped before has no prediction (None).
    """
    found = first_error_of_path(verification, path, threshold)
    if found is not None:
        return found
    votes = (vote for verdict in verification.verdicts for vote in verdict.votes if vote.path == path)
    lost = next((vote for vote in votes if vote.status is not VoteStatus.OK), None)
    return FAILED if lost is not None and lost.status in _FAULTS else None


def vote_first_error(predictions: Sequence[Prediction]) -> Prediction:
    """The most frequent prediction, of equals the one sampled first: upstream ProcessBench's majority vote.

    Missing predictions have no vote. With nothing to vote on the result is FAILED when every path failed, else None.
    """
    counts = Counter(one for one in predictions if isinstance(one, int))
    if counts:
        return max(counts, key=counts.__getitem__)
    return FAILED if predictions and all(one == FAILED for one in predictions) else None
