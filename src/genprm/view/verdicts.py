"""Verifications as plain text."""

from __future__ import annotations

from genprm.records import NO_ERROR, StepVerdict, Verification, Vote
from genprm.text.counts import counted_tokens

TITLE = f"{'step':>4}  {'verdict':<8}  {'reward':>6}  {'votes':>7}  note"
_NOTE_CHARS = 70


def verdict_table(verification: Verification) -> str:
    """A verification as a table: for each step the verdict, its reward, its votes, and what the code printed.

    Steps are counted from 1 here, as a reader counts them; `first_error` and `step` in the records count from 0.
    """
    rows = [verdict_row(verdict) for verdict in verification.verdicts]
    return "\n".join([TITLE, *rows, summary_line(verification)])


def verdict_row(verdict: StepVerdict) -> str:
    """One step's row."""
    counted = sum(vote.reward is not None for vote in verdict.votes)
    reward = "-" if verdict.reward is None else f"{verdict.reward:.3f}"
    votes = f"{counted}/{len(verdict.votes)}"
    row = f"{verdict.step + 1:>4}  {verdict_word(verdict):<8}  {reward:>6}  {votes:>7}  {_note(verdict)}"
    return row.rstrip()


def verdict_word(verdict: StepVerdict) -> str:
    """`right`, `wrong`, or why there is no verdict."""
    if verdict.judgement is None:
        return verdict.status
    return "right" if verdict.judgement else "wrong"


def summary_line(row: Verification) -> str:
    """The first error, the solution's scores and the cost."""
    if row.first_error is None:
        found = "unknown: a verdict is missing"
    elif row.first_error == NO_ERROR:
        found = "none"
    else:
        found = f"step {row.first_error + 1}"
    scores = ", ".join(
        f"{name} {'unknown' if value is None else f'{value:.3f}'}"
        for name, value in row.score.model_dump().items()
    )
    tokens = counted_tokens(row.usage.completion_tokens, row.usage.uncounted)
    return f"first error: {found}; scores: {scores}; {tokens} tokens"


def deciding_vote(verdict: StepVerdict) -> Vote | None:
    """The vote that is surest of what the verdict says; any vote with a text if there is no verdict."""
    counted = [vote for vote in verdict.votes if vote.reward is not None]
    if verdict.judgement is None or not counted:
        return next((vote for vote in verdict.votes if vote.rationale is not None), None)
    sign = -1.0 if verdict.judgement else 1.0
    return min(counted, key=lambda vote: (sign * (vote.reward or 0.0), vote.path))


def _note(verdict: StepVerdict) -> str:
    """Why there is no verdict, or what the deciding vote's code printed."""
    if verdict.judgement is None:
        why = next((vote.reason for vote in verdict.votes if vote.reason), None)
        return "; ".join(part for part in (verdict.reason, why) if part)
    if verdict.reason:
        return verdict.reason
    vote = deciding_vote(verdict)
    if vote is None or vote.rationale is None or not vote.rationale.rounds:
        return ""
    output = vote.rationale.rounds[-1].output
    return "" if output is None else f"code printed: {' '.join(output.split())[:_NOTE_CHARS]}"
