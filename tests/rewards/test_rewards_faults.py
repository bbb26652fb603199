"""A verification that an outage left empty is not mistaken for one that says something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.errors import EngineUnavailable, GenPRMError, SandboxDied
from genprm.records import StepVerdict, Verification, VerifyItem, Vote, VoteStatus
from genprm.rewards import lost_entirely, raise_if_all_failed
from genprm.rewards.voting import tally, verification

FAULTS = (VoteStatus.ENGINE_FAILED, VoteStatus.SANDBOX_FAILED, VoteStatus.NOT_REACHED)


def vote(status: VoteStatus, path: int = 0, reason: str = "Kind: gone", *, retryable: bool = False) -> Vote:
    if status is VoteStatus.OK:
        return Vote(path=path, reward=1.0)
    return Vote(path=path, status=status, reason=reason, retryable=retryable)


def row(*steps: list[Vote]) -> Verification:
    item = VerifyItem(id="a", problem="p", steps=tuple("s" for _ in steps))
    return verification(item, [tally(step, votes) for step, votes in enumerate(steps)], verifier="v")


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(list(VoteStatus)), st.booleans()), min_size=1), min_size=1)
)
def test_a_row_is_lost_if_every_vote_met_a_fault(table: list[list[tuple[VoteStatus, bool]]]) -> None:
    steps = [
        [vote(status, path, retryable=may_pass) for path, (status, may_pass) in enumerate(votes)]
        for votes in table
    ]
    found = lost_entirely(row(*steps))
    everything = [one for votes in steps for one in votes]
    if all(one.status in FAULTS for one in everything):
        assert found == ("Kind", "gone", any(one.retryable for one in everything))
    else:
        assert found is None


def test_the_fault_itself_is_named_and_one_that_may_pass_before_one_that_will_not() -> None:
    unreached = vote(
        VoteStatus.NOT_REACHED, 0, "the path was lost at step 1: engine_failed", retryable=True
    )
    refused = vote(VoteStatus.ENGINE_FAILED, 1, "EngineRequestError: no such model: x")
    late = vote(VoteStatus.ENGINE_FAILED, 2, "EngineTimeout: too slow", retryable=True)
    assert lost_entirely(row([refused])) == ("EngineRequestError", "no such model: x", False)
    assert lost_entirely(row([unreached, refused])) == ("EngineRequestError", "no such model: x", True)
    assert lost_entirely(row([unreached, refused, late])) == ("EngineTimeout", "too slow", True)


def test_a_failure_that_no_vote_explains_keeps_its_own_reason() -> None:
    item = VerifyItem(id="a", problem="p", steps=("s",))
    bare = StepVerdict(step=0, status="failed", reason="the judge is away")
    assert lost_entirely(verification(item, [bare], verifier="v")) == ("failed", "the judge is away", False)
    spoken = vote(VoteStatus.ENGINE_FAILED, reason="it broke: badly")
    assert lost_entirely(row([spoken])) == ("engine_failed", "it broke: badly", False)


@pytest.mark.parametrize("retryable", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(VoteStatus.ENGINE_FAILED, EngineUnavailable), (VoteStatus.SANDBOX_FAILED, SandboxDied)],
)
def test_rows_that_are_all_lost_raise(status: VoteStatus, kind: type[GenPRMError], retryable: bool) -> None:
    lost = row([vote(VoteStatus.NOT_REACHED), vote(status, 1, retryable=retryable)])
    with pytest.raises(kind, match="Kind: gone") as caught:
        raise_if_all_failed([lost, lost])
    assert caught.value.retryable is retryable and caught.value.hint


@pytest.mark.parametrize(
    ("reason", "retryable", "advice"),
    [
        ("EngineTimeout: too slow", True, "run again"),
        ("ContextOverflow: too long", False, "verify.max_tokens"),
        ("EngineRequestError: no such turn", False, "tokenizer"),
        ("SandboxDied: no room", False, "what the sandbox lacks"),
    ],
)
def test_a_fault_that_will_not_pass_is_not_answered_with_run_again(
    reason: str, retryable: bool, advice: str
) -> None:
    lost = row([vote(VoteStatus.ENGINE_FAILED, reason=reason, retryable=retryable)])
    with pytest.raises(EngineUnavailable) as caught:
        raise_if_all_failed([lost])
    assert advice in caught.value.hint
    assert retryable or "run again" not in caught.value.hint


def test_one_row_is_enough_to_keep_the_others() -> None:
    lost = row([vote(VoteStatus.ENGINE_FAILED)])
    for other in (
        row([vote(VoteStatus.ENGINE_FAILED), vote(VoteStatus.OK, 1)]),
        row([vote(VoteStatus.NO_JUDGEMENT)]),
    ):
        assert lost_entirely(lost) and lost_entirely(other) is None
        raise_if_all_failed([lost, other])
        raise_if_all_failed([other, lost])
    raise_if_all_failed([])
