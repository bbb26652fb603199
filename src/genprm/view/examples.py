"""Verified solutions, prepared for reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genprm.records import NO_ERROR, CodeRound, StepVerdict, Verification, Vote, VoteStatus
from genprm.text.counts import counted_tokens
from genprm.text.transcript import parse_turn
from genprm.view.figures import Figure, figure

_CODE_STATUS = {
    "ok": "ran",
    "error": "raised an error",
    "timeout": "ran out of time",
    "killed": "was stopped at a limit",
    "output_limit": "printed too much",
    "died": "ended its interpreter",
    "not_run": "was not run",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a vote's text: `prose`, `code` or `output`. `note` says how code ended."""

    kind: str
    text: str
    note: str = ""
    good: bool = True


@dataclass(frozen=True, slots=True)
class VoteView:
    """A vote."""

    number: int
    reward: Figure
    word: str
    mood: str
    remarks: Sequence[str]
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class StepView:
    """A step with its verdict. `mood` is `good`, `bad` or `open`; it is never shown by colour alone."""

    number: int
    text: str
    reward: Figure
    share: float
    verdict: str
    mood: str
    reason: str
    counted: int
    votes: Sequence[VoteView]


@dataclass(frozen=True, slots=True)
class ExampleView:
    """A verified solution."""

    number: int
    problem: str
    outcome: str
    mood: str
    steps: Sequence[StepView]
    facts: Sequence[tuple[str, str]]


def example_view(row: Verification, number: int) -> ExampleView:
    """The view of one verification."""
    if row.first_error is None:
        outcome, mood = "the first wrong step is unknown", "open"
    elif row.first_error == NO_ERROR:
        outcome, mood = "no wrong step found", "good"
    else:
        outcome, mood = f"first wrong step: {row.first_error + 1}", "bad"
    scores = row.score.model_dump()
    facts = [(f"score, {name}", figure(value, digits=3).text) for name, value in scores.items()]
    facts += [
        ("verifier", row.verifier or "unnamed"),
        ("components", row.components or "none: it writes nothing"),
        ("tokens written", counted_tokens(row.usage.completion_tokens, row.usage.uncounted)),
    ]
    steps = [_step(text, verdict) for text, verdict in zip(row.steps, row.verdicts, strict=False)]
    return ExampleView(number, row.problem, outcome, mood, steps, facts)


def _step(text: str, verdict: StepVerdict) -> StepView:
    if verdict.judgement is None:
        words = {"unparsed": "no judgement could be read", "failed": "failed", "skipped": "not checked"}
        word, mood = words.get(verdict.status, "unknown"), "open"
    else:
        word, mood = ("right", "good") if verdict.judgement else ("wrong", "bad")
    reward = figure(verdict.reward, verdict.reason or word, digits=3)
    return StepView(
        number=verdict.step + 1,
        text=text,
        reward=reward,
        share=100 * min(1.0, max(0.0, reward.value or 0.0)),
        verdict=word,
        mood=mood,
        reason=verdict.reason or "",
        counted=sum(vote.status is VoteStatus.OK for vote in verdict.votes),
        votes=[_vote(vote) for vote in verdict.votes],
    )


def _vote(vote: Vote) -> VoteView:
    remarks = []
    if vote.status is not VoteStatus.OK:
        remarks.append(f"not counted: {vote.status.value.replace('_', ' ')}")
    if vote.reason:
        remarks.append(vote.reason)
    if vote.forced:
        remarks.append("the judgement was forced")
    if vote.bound != "exact":
        remarks.append("p(Yes) is a bound: the other word was outside the engine's top-k")
    if vote.judgement is None:
        word, mood = "no judgement", "open"
    else:
        word, mood = ("Yes", "good") if vote.judgement else ("No", "bad")
    why = vote.reason or vote.status.value.replace("_", " ")
    return VoteView(vote.path + 1, figure(vote.reward, why, digits=3), word, mood, remarks, _pieces(vote))


def _pieces(vote: Vote) -> list[Piece]:
    if vote.rationale is None:
        return []
    turn = parse_turn(vote.rationale.text)
    pieces = []
    analysis = turn.analysis or vote.rationale.analysis
    if analysis:
        pieces.append(Piece("prose", analysis))
    rounds = list(vote.rationale.rounds)
    for segment in turn.verify or ():
        note, good = "", True
        if segment.kind == "code" and rounds:
            note, good = _note(rounds.pop(0))
        pieces.append(Piece(segment.kind, segment.text, note, good))
    return pieces


def _note(run: CodeRound) -> tuple[str, bool]:
    time = f" in {run.seconds * 1000:.0f} ms" if run.seconds else ""
    return f"{_CODE_STATUS.get(run.status.value, run.status.value)}{time}", run.status.value in (
        "ok",
        "not_run",
    )
