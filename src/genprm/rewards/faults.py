"""When a verification is no result at all."""

from __future__ import annotations

from collections.abc import Sequence

from genprm.engines._http.failures import AccessRefused
from genprm.errors import (
    ContextOverflow,
    EngineError,
    EngineRequestError,
    EngineUnavailable,
    SandboxDied,
    SandboxError,
)
from genprm.generate.rollout import failure_text
from genprm.records import Verification, Vote, VoteStatus


def fault_vote(error: EngineError | SandboxError) -> Vote:
    """The vote of a judge that met a fault."""
    status = VoteStatus.ENGINE_FAILED if isinstance(error, EngineError) else VoteStatus.SANDBOX_FAILED
    return Vote(status=status, reason=failure_text(error), retryable=error.retryable)


def lost_entirely(row: Verification) -> tuple[str, str, bool] | None:
    """Why a row holds nothing to keep: engine or sandbox failed on every step.

    Failures of single votes and steps stay in the verdicts, with their status. A row that is lost as a whole
    should be tried again by a later run instead of being stored as a result.

    Returns:
        (the fault's kind, for example `EngineTimeout`; its message; whether it may pass), of a fault that may
        pass if any vote met one, else of the first fault. None if any step has another status than `failed`.
    """
    if not row.verdicts or any(verdict.status != "failed" for verdict in row.verdicts):
        return None
    vote = _most_telling(row)
    text = (vote.reason if vote is not None else row.verdicts[0].reason) or "failed without a reason"
    kind, colon, detail = text.partition(": ")
    if not colon or not kind.isidentifier():
        kind, detail = vote.status.value if vote is not None else "failed", text
    return kind, detail, any(vote.retryable for verdict in row.verdicts for vote in verdict.votes)


def raise_if_all_failed(rows: Sequence[Verification]) -> None:
    """Raise if every row was lost entirely: an outage, and then there is nothing to return.

    Raises:
        EngineUnavailable, SandboxDied: with the first row's fault.
    """
    faults = [lost_entirely(row) for row in rows]
    first = faults[0] if faults else None
    if first is None or None in faults:
        return
    kind, detail, retryable = first
    message = f"no step could be verified: {kind}: {detail}"
    vote = _most_telling(rows[0])
    if vote is not None and vote.status is VoteStatus.SANDBOX_FAILED:
        hint = fault_hint(SandboxDied.__name__, retryable=retryable)
        raise SandboxDied(message, hint=hint, retryable=retryable)
    raise EngineUnavailable(message, hint=fault_hint(kind, retryable=retryable), retryable=retryable)


def fault_hint(kind: str, *, retryable: bool, budget: str = "verify.max_tokens") -> str:
    """What to do about a fault of an engine or a sandbox, by the name of its error class.

    Args:
        budget: the config key of the tokens that were asked for.
    """
    if kind.startswith("Sandbox"):
        return "Run 'genprm doctor' to see what the sandbox lacks here."
    if retryable:
        return "Check that the engine answers ('genprm doctor --url URL') and run again."
    if kind == ContextOverflow.__name__:
        return f"Lower {budget} (max_tokens of that section from Python), or use a model with a longer context."
    if kind == AccessRefused.__name__:
        return "Set the API key's environment variable (OPENAI_API_KEY, or what api_key_env names), and run again."
    if kind == EngineRequestError.__name__:
        return (
            "The same request will be refused again. If a chat endpoint is the reason, give the engine's option "
            "`tokenizer`: prompts are then rendered here and sent to /v1/completions, if the server has that."
        )
    return "Check the engine with 'genprm doctor --url URL'."


def _most_telling(row: Verification) -> Vote | None:
    """The vote that says best what went wrong: one that met the fault itself, and one that may pass if any did."""
    votes = [vote for verdict in row.verdicts for vote in verdict.votes]
    met = [vote for vote in votes if vote.status is not VoteStatus.NOT_REACHED]
    return min(met or votes, key=lambda vote: not vote.retryable, default=None)
