"""Voting and scores: the mean over votes that count, and None wherever something is unknown."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from genprm.records import StepVerdict, Usage, Verification, VerifyItem, Vote, VoteStatus
from genprm.rewards.scores import score_solution
from genprm.rewards.voting import first_error, first_error_of_path, skipped, tally, verification

REWARDS = st.floats(0, 1)
LOST = [status for status in VoteStatus if status is not VoteStatus.OK]
VOTES = st.lists(st.one_of(REWARDS, st.sampled_from(LOST)), max_size=8).map(
    lambda entries: [
        Vote(path=i, reward=e) if isinstance(e, float) else Vote(path=i, status=e)
        for i, e in enumerate(entries)
    ]
)


@given(VOTES, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_reward_is_the_mean_of_counted_votes(
    votes: list[Vote], threshold: float, rng: random.Random
) -> None:
    verdict = tally(4, votes, threshold)
    counted = [vote.reward for vote in votes if vote.status is VoteStatus.OK and vote.reward is not None]
    if counted:
        assert verdict.reward == pytest.approx(math.fsum(counted) / len(counted))
        assert min(counted) - 1e-12 <= (verdict.reward or 0) <= max(counted) + 1e-12
        assert verdict.judgement is ((verdict.reward or 0) >= threshold)
        assert verdict.status == "ok"
    else:
        assert verdict.reward is None and verdict.judgement is None
        assert verdict.status in ("unparsed", "failed")
    shuffled = list(votes)
    rng.shuffle(shuffled)
    assert tally(4, shuffled, threshold) == verdict


@given(VOTES)
def test_lost_votes_change_nothing_but_the_reason(votes: list[Vote]) -> None:
    counted = [vote for vote in votes if vote.status is VoteStatus.OK]
    whole, alone = tally(0, votes), tally(0, counted)
    assert (whole.reward, whole.judgement) == (alone.reward, alone.judgement)
    assert (whole.reason is None) == (len(counted) == len(votes))


@pytest.mark.parametrize("reward", [math.nan, math.inf, -0.001, 1.001])
def test_what_is_no_reward_is_no_vote(reward: float) -> None:
    with pytest.raises(ValidationError):
        Vote(reward=reward)
    with pytest.raises(ValidationError):
        StepVerdict(step=0, reward=reward)


def test_lost_votes_are_counted_in_the_reason() -> None:
    votes = [Vote(path=0, reward=1.0), Vote(path=1, status=VoteStatus.NO_JUDGEMENT)]
    assert tally(0, votes).reason == "no_judgement: 1"
    assert tally(0, votes[1:]).status == "unparsed"
    faults = [Vote(path=0, status=VoteStatus.ENGINE_FAILED), Vote(path=1, status=VoteStatus.NOT_REACHED)]
    assert tally(0, faults).status == "failed"
    assert tally(0, [*faults, votes[1]]).status == "unparsed"
    assert skipped(3, "after the first error") == StepVerdict(
        step=3, status="skipped", reason="after the first error"
    )


@given(st.lists(st.none() | st.booleans(), max_size=6))
def test_the_first_error_is_unknown_behind_an_unknown(judgements: list[bool | None]) -> None:
    found = first_error(judgements)
    before = judgements if found in (None, -1) else judgements[:found]
    if found == -1:
        assert all(judgements) and None not in judgements
    elif found is None:
        assert None in judgements
        assert False not in judgements[: judgements.index(None)]
    else:
        assert judgements[found] is False and all(before)


def test_one_paths_own_view() -> None:
    def verdict(step: int, *votes: Vote) -> StepVerdict:
        return tally(step, votes)

    verdicts = (
        verdict(0, Vote(path=0, reward=0.9), Vote(path=1, reward=0.4)),
        verdict(1, Vote(path=0, reward=0.1), Vote(path=1, reward=0.9), Vote(path=2, reward=0.8)),
        skipped(2, "after the first error"),
    )
    item = Verification(item_id="i", problem="p", steps=("a", "b", "c"), verdicts=verdicts)
    assert first_error_of_path(item) == 1
    assert first_error_of_path(item, 1) == 0
    assert first_error_of_path(item, 1, threshold=0.3) is None
    assert first_error_of_path(item, 2) is None
    assert first_error_of_path(item, 5) is None


@given(st.lists(st.lists(st.one_of(REWARDS, st.none()), min_size=1, max_size=3), min_size=1, max_size=5))
def test_one_path_sees_what_a_verifier_with_one_vote_would_see(table: list[list[float | None]]) -> None:
    votes = [
        [
            Vote(path=path, reward=reward)
            if reward is not None
            else Vote(path=path, status=VoteStatus.NO_JUDGEMENT)
            for path, reward in enumerate(rewards)
        ]
        for rewards in table
    ]
    item = VerifyItem(id="i", problem="p", steps=tuple("s" for _ in table), problem_id="q")
    row = verification(item, [tally(step, cast) for step, cast in enumerate(votes)], verifier="v")
    first = verification(item, [tally(step, cast[:1]) for step, cast in enumerate(votes)], verifier="v")
    assert first_error_of_path(row) == first.first_error
    assert (row.problem_id, row.usage) == ("q", Usage())


def test_a_verification_has_one_verdict_per_step() -> None:
    item = VerifyItem(id="i", problem="p", steps=("a", "b"))
    for verdicts in ([], [tally(0, [])], [tally(1, []), tally(0, [])], [tally(n, []) for n in range(3)]):
        with pytest.raises(ValueError, match="one verdict for each of its 2 steps"):
            verification(item, verdicts, verifier="v")


@given(st.lists(REWARDS, min_size=1, max_size=9))
def test_scores(rewards: list[float]) -> None:
    score = score_solution(rewards)
    assert (score.last, score.min) == (rewards[-1], min(rewards))
    assert score.mean == pytest.approx(sum(rewards) / len(rewards))
    assert score.prod == pytest.approx(math.prod(rewards))
    assert score.prod is not None and score.min is not None and score.prod <= score.min + 1e-12
    assert score_solution(rewards[::-1]).prod == score.prod, "equal rewards in another order are a tie"
    for at in range(len(rewards)):
        broken = score_solution([*rewards[:at], None, *rewards[at + 1 :]])
        assert (broken.last, broken.mean, broken.min, broken.prod) == (None, None, None, None)


def test_no_steps_no_score() -> None:
    assert score_solution([]).mean is None
