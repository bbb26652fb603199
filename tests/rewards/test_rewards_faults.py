import pytest

from genprm.errors import EngineUnavailable, SandboxDied
from genprm.records import StepVerdict, Verification, Vote, VoteStatus
from genprm.rewards import raise_if_all_failed


def row(*statuses: VoteStatus) -> Verification:
    votes = tuple(
        Vote(
            path=i,
            status=s,
            reason=None if s is VoteStatus.OK else "gone",
            reward=1.0 if s is VoteStatus.OK else None,
        )
        for i, s in enumerate(statuses)
    )
    failed = all(s is not VoteStatus.OK for s in statuses)
    verdict = StepVerdict(step=0, status="failed" if failed else "ok", votes=votes)
    return Verification(item_id="a", problem="p", steps=("s",), verdicts=(verdict,))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(VoteStatus.ENGINE_FAILED, EngineUnavailable), (VoteStatus.SANDBOX_FAILED, SandboxDied)],
)
def test_a_batch_that_is_lost_as_a_whole_raises(status: VoteStatus, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="gone"):
        raise_if_all_failed([row(VoteStatus.NOT_REACHED, status), row(status, status)])


def test_one_verdict_is_enough_to_keep_a_batch() -> None:
    raise_if_all_failed([row(VoteStatus.ENGINE_FAILED), row(VoteStatus.ENGINE_FAILED, VoteStatus.OK)])
    raise_if_all_failed([])
