"""Predictions read off verifications: the verifier's own misses and the engine's faults are kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.evals.predictions import FAILED, Prediction, prediction, prediction_of_path, vote_first_error
from genprm.records import NO_ERROR, Verification, Vote, VoteStatus
from genprm.rewards import first_error, tally

OK, NONE, ENGINE, SANDBOX, AFTER = (
    VoteStatus.OK,
    VoteStatus.NO_JUDGEMENT,
    VoteStatus.ENGINE_FAILED,
    VoteStatus.SANDBOX_FAILED,
    VoteStatus.NOT_REACHED,
)


def verified(steps: Sequence[Sequence[float | VoteStatus]]) -> Verification:
    """A verification from each step's votes, path by path: a reward, or how the vote was lost."""
    verdicts = tuple(
        tally(
            step,
            [
                Vote(path=path, status=one)
                if isinstance(one, VoteStatus)
                else Vote(path=path, reward=one, judgement=one >= 0.5)
                for path, one in enumerate(votes)
            ],
        )
        for step, votes in enumerate(steps)
    )
    return Verification(
        item_id="x",
        problem="P",
        steps=tuple(f"s{k}" for k in range(len(steps))),
        verdicts=verdicts,
        first_error=first_error([verdict.judgement for verdict in verdicts]),
    )


@pytest.mark.parametrize(
    ("steps", "together", "alone"),
    [
        ([[0.9, 0.8], [0.9, 0.7]], NO_ERROR, [NO_ERROR, NO_ERROR]),
        ([[0.9, 0.8], [0.1, 0.7]], 1, [1, NO_ERROR]),
        ([[0.9, 0.8], [NONE, NONE]], None, [None, None]),
        ([[0.9, 0.8], [ENGINE, SANDBOX]], FAILED, [FAILED, FAILED]),
        ([[0.9, 0.8], [ENGINE, NONE]], None, [FAILED, None]),
        ([[0.9, ENGINE], [0.9, AFTER]], NO_ERROR, [NO_ERROR, FAILED]),
        ([[NONE, 0.9], [AFTER, ENGINE]], FAILED, [None, FAILED]),
        ([[0.1, ENGINE], [AFTER, AFTER]], 0, [0, FAILED]),
    ],
)
def test_how_a_prediction_was_lost(
    steps: list[list[float | VoteStatus]], together: Prediction, alone: list[Prediction]
) -> None:
    row = verified(steps)
    assert prediction(row) == together
    assert [prediction_of_path(row, path) for path in (0, 1)] == alone


def test_the_threshold_of_the_verifier_decides_for_a_path() -> None:
    row = verified([[0.6]])
    assert [prediction_of_path(row, 0, threshold) for threshold in (0.5, 0.6, 0.7)] == [-1, -1, 0]


def test_voting_on_first_errors_by_hand() -> None:
    assert vote_first_error([2, 1, 2]) == 2
    assert vote_first_error([3, 1, None, 1, 3]) == 3, "of equals the first sampled"
    assert vote_first_error([None, None, 4, FAILED]) == 4, "what is missing has no vote"
    assert vote_first_error([NO_ERROR, 0, NO_ERROR]) == NO_ERROR
    assert vote_first_error([FAILED, None]) is None
    assert vote_first_error([FAILED, FAILED]) == FAILED
    assert vote_first_error([]) is None


@given(st.lists(st.integers(-1, 3) | st.none(), max_size=8))
def test_a_vote_is_a_most_frequent_prediction(guesses: list[int | None]) -> None:
    known = [guess for guess in guesses if guess is not None]
    winner = vote_first_error(guesses)
    assert winner == vote_first_error(known)
    if known:
        counts = {guess: known.count(guess) for guess in known}
        tied = [guess for guess in known if counts[guess] == max(counts.values())]
        assert winner == tied[0]
