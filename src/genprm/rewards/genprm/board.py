"""The votes on a solution, and the verdicts that they lead to."""

from __future__ import annotations

from collections import defaultdict

from genprm.config.models import VerifyConfig
from genprm.records import StepVerdict, Usage, Vote
from genprm.rewards.base import OnStep
from genprm.rewards.voting import skipped, tally

AFTER_FIRST_ERROR = "after the first error"
BUDGET_SPENT = "the token budget was spent"


class Board:
    """Collects the votes on each step of one solution, and the verdicts that stand.

    Args:
        id: the solution's, for `on_step`.
        on_step: called with every verdict as soon as it stands.

    Attributes:
        verdicts: one per step that is decided, in order.
        usage: what the votes cost that were taken here.
    """

    def __init__(self, id: str, options: VerifyConfig, on_step: OnStep | None = None) -> None:
        self._id = id
        self._options = options
        self._on_step = on_step
        self._votes: defaultdict[int, list[Vote]] = defaultdict(list)
        self.verdicts: list[StepVerdict] = []
        self.usage = Usage()

    def fork(self) -> Board:
        """A board that continues from the verdicts of this one; its usage counts from zero."""
        twin = Board(self._id, self._options)
        twin.verdicts = list(self.verdicts)
        return twin

    def add(self, step: int, vote: Vote) -> None:
        """A path's vote on a step."""
        self._votes[step].append(vote)
        self.charge(vote)

    def charge(self, vote: Vote) -> None:
        """Count what a vote cost."""
        self.usage += vote.usage

    def rewards(self, step: int) -> list[float]:
        """Rewards of the votes that count so far, in the order of the paths."""
        votes = sorted(self._votes[step], key=lambda vote: vote.path)
        return [vote.reward for vote in votes if vote.reward is not None]

    def complete(self, step: int) -> bool:
        """Whether every path has voted."""
        return len(self._votes[step]) == self._options.votes

    def close(self, step: int) -> StepVerdict:
        """Make the verdict on a step from the votes at hand; without any, the token budget was spent."""
        votes = self._votes.pop(step, [])
        return self._stand(
            tally(step, votes, self._options.threshold) if votes else skipped(step, BUDGET_SPENT)
        )

    def skip(self, step: int) -> StepVerdict:
        """Leave a step after the first error without votes."""
        return self._stand(skipped(step, AFTER_FIRST_ERROR))

    @property
    def found(self) -> bool:
        """Whether the first error is found, also by every single path if the options ask for that."""
        if all(verdict.judgement is not False for verdict in self.verdicts):
            return False
        if not self._options.every_path_to_its_error:
            return True
        wrong = {
            vote.path
            for verdict in self.verdicts
            for vote in verdict.votes
            if vote.reward is not None and vote.reward < self._options.threshold
        }
        return len(wrong) == self._options.votes

    def _stand(self, verdict: StepVerdict) -> StepVerdict:
        self.verdicts.append(verdict)
        if self._on_step is not None:
            self._on_step(self._id, verdict)
        return verdict
