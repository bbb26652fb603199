"""When a verification is no result at all."""

from __future__ import annotations

from collections.abc import Sequence

from genprm.errors import EngineUnavailable, SandboxDied
from genprm.records import Verification, VoteStatus


def raise_if_all_failed(rows: Sequence[Verification]) -> None:
    """Raise where engine or sandbox failed on every step of every row: then there is nothing to keep.

    Failures of single votes and steps stay in the verdicts, with their status. A batch that is lost
    as a whole is an outage, and a later run should try it again instead of storing it.

    Raises:
        EngineUnavailable, SandboxDied: with the first reason given.
    """
    verdicts = [verdict for row in rows for verdict in row.verdicts]
    if not verdicts or any(verdict.status != "failed" for verdict in verdicts):
        return
    votes = [vote for verdict in verdicts for vote in verdict.votes]
    first = next((vote for vote in votes if vote.status is not VoteStatus.NOT_REACHED), votes[0])
    message = f"no step could be verified: {first.reason}"
    if first.status is VoteStatus.SANDBOX_FAILED:
        raise SandboxDied(message, hint="Run 'genprm doctor' to see what the sandbox lacks here.")
    raise EngineUnavailable(
        message, hint="Check that the engine answers ('genprm doctor --url URL') and run again."
    )
