"""Consensus filtering: keep solutions on which Monte-Carlo labels and teacher agree (method, part 4).

The teacher's index of the first wrong step implies the labels True before it and False at it, or True
everywhere for NO_ERROR; it says nothing about later steps, which are not used for training either. So
teacher and labels agree if, and only if, both name the same first error. A label that is left to the teacher
(`label.undecided: keep`) agrees with whatever the teacher says of that step.
"""

from __future__ import annotations

from collections.abc import Sequence

from genprm.labels import TEACHER
from genprm.records import NO_ERROR, Consensus, Dropped, Rationale, Solution, SolutionLabels, StageOutput

STAGE = "consensus"
# In the order of the checks: with several rationales the one that came furthest names the reason.
REASONS = (
    "no_labels",
    "label_unknown",
    "no_rationale",
    "rationale_failed",
    "rationale_incomplete",
    "judgements_contradict_index",
    "disagree",
)


def filter_by_consensus(
    solutions: Sequence[Solution], labels: Sequence[SolutionLabels], rationales: Sequence[Rationale]
) -> StageOutput[Consensus]:
    """Keep a solution if a rationale's index implies the Monte-Carlo labels; drop it otherwise.

    Of several rationales for one solution the first (by `sample`) that agrees is taken. Reasons for
    dropping, counted by solution:

    - `no_labels`, `no_rationale`: an earlier stage dropped it;
    - `label_unknown`: a step up to the first error has no label;
    - `rationale_failed`: its status is not `ok`, or it has no index, or one outside the solution;
    - `rationale_incomplete`: it does not reach the first error, or the end if there is none;
    - `judgements_contradict_index`: a step's own judgement contradicts the final index;
    - `disagree`: teacher and Monte-Carlo labels name different first errors.
    """
    by_solution = {row.solution_id: row for row in labels}
    written: dict[str, list[Rationale]] = {}
    for rationale in rationales:
        written.setdefault(rationale.solution_id, []).append(rationale)
    kept: list[Consensus] = []
    dropped: list[Dropped] = []
    for solution in solutions:
        outcome = _judge(solution, by_solution.get(solution.id), written.get(solution.id, []))
        if isinstance(outcome, Consensus):
            kept.append(outcome)
        else:
            dropped.append(outcome)
    return StageOutput(tuple(kept), tuple(dropped))


def _judge(
    solution: Solution, labels: SolutionLabels | None, rationales: Sequence[Rationale]
) -> Consensus | Dropped:
    if labels is None:
        return _drop(solution, "no_labels")
    first_errors = _first_errors(labels)
    if not first_errors:
        return _drop(solution, "label_unknown")
    if not rationales:
        return _drop(solution, "no_rationale")
    objections: list[tuple[str, str]] = []
    for rationale in sorted(rationales, key=lambda row: row.sample):
        objection = _objection(rationale, first_errors, len(solution.steps))
        if objection is None:
            assert rationale.first_error is not None
            return Consensus(
                solution_id=solution.id,
                problem_id=solution.problem_id,
                first_error=rationale.first_error,
                rationale_sample=rationale.sample,
            )
        objections.append(objection)
    return _drop(solution, *max(objections, key=lambda entry: REASONS.index(entry[0])))


def _first_errors(labels: SolutionLabels) -> tuple[int, ...]:
    """The first errors that the labels allow: one, or also those at steps that are left to the teacher."""
    allowed = []
    for index, step in enumerate(labels.labels):
        if step.label is True:
            continue
        if step.reason == TEACHER:
            allowed.append(index)
        else:
            return (*allowed, index) if step.label is False else tuple(allowed)
    return (*allowed, NO_ERROR)


def _objection(rationale: Rationale, first_errors: Sequence[int], length: int) -> tuple[str, str] | None:
    """Why a rationale does not support the labels (reason, detail), or None if it does."""
    index = rationale.first_error
    if rationale.status != "ok":
        return "rationale_failed", f"{rationale.status}: {rationale.reason or ''}".rstrip(": ")
    if index is None or not NO_ERROR <= index < length:
        return "rationale_failed", f"first error: {_named(index)}, of {length} steps"
    needed = length if index == NO_ERROR else index + 1
    if len(rationale.steps) < needed:
        return "rationale_incomplete", f"{len(rationale.steps)} of {needed} steps"
    for at, step in enumerate(rationale.steps[:needed]):
        if step.judgement is not None and step.judgement != (at != index):
            judged = "right" if step.judgement else "wrong"
            return (
                "judgements_contradict_index",
                f"{_named(at)} is judged {judged}, first error: {_named(index)}",
            )
    if index not in first_errors:
        allowed = " or ".join(map(_named, first_errors))
        return "disagree", f"first error: {_named(index)} by the teacher, {allowed} by the labels"
    return None


def _named(index: int | None) -> str:
    """A first error as texts name it: they count steps from 1."""
    if index is None:
        return "not given"
    return "none" if index == NO_ERROR else f"step {index + 1}"


def _drop(solution: Solution, reason: str, detail: str = "") -> Dropped:
    return Dropped(
        item_id=solution.id, problem_id=solution.problem_id, stage=STAGE, reason=reason, detail=detail
    )
