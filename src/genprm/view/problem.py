"""One problem's way through a run as plain text: what was written, scored, labelled, judged, kept and trained on.

Steps are counted from 1 here, as a reader counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from textwrap import indent
from typing import Any, TypeVar

from pydantic import BaseModel

from genprm.evals.intervals import wilson
from genprm.records import (
    NO_ERROR,
    Consensus,
    Dropped,
    Problem,
    Rationale,
    RefinementTrace,
    Selection,
    Solution,
    SolutionLabels,
    SolutionScores,
    StageOutput,
    StepLabel,
    StepScore,
    TrainingSample,
    Verification,
)
from genprm.view.verdicts import verdict_table

RowT = TypeVar("RowT", bound=BaseModel)
Found = Mapping[str, StageOutput[Any]]
"""What a run holds about one problem, by stage: `RunReader.about`."""


def problem_json(found: Found) -> dict[str, Any]:
    """The same as values that JSON can hold: by stage the rows, the dropped rows and the pending faults."""
    return {
        stage: {
            "rows": [row.model_dump(mode="json") for row in made.rows],
            "dropped": [row.model_dump(mode="json") for row in made.dropped],
            "pending": [lost.model_dump(mode="json") for lost in made.lost],
        }
        for stage, made in found.items()
    }


def problem_text(found: Found) -> str:
    """The problem, then each solution with everything that was made of it, then what concerns them all."""
    parts: list[str] = []
    for _, problem in _rows(found, Problem):
        text = f"problem {problem.id}\n{_inset(problem.text)}\nreference answer: {problem.answer or 'none'}"
        if text not in parts:  # chains of one run may have the same problem
            parts.append(text)
    shown: set[str] = set()
    for stage, solution in _rows(found, Solution):
        shown.add(solution.id)
        parts.append("\n".join([_solution(stage, solution), *_about(found, solution.id)]))
    parts += [_selection(stage, row) for stage, row in _rows(found, Selection)]
    parts += [_trace(stage, row) for stage, row in _rows(found, RefinementTrace)]
    for stage, made in found.items():
        parts += [_dropped(stage, row) for row in made.dropped if row.item_id not in shown]
        parts += [f"pending in {stage}: {lost.reason}: {lost.detail}" for lost in made.lost]
    return "\n\n".join(parts) + "\n"


def _rows(found: Found, kind: type[RowT]) -> Iterator[tuple[str, RowT]]:
    for stage, made in found.items():
        for row in made.rows:
            if isinstance(row, kind):
                yield stage, row


def _about(found: Found, solution_id: str) -> Iterator[str]:
    """What was made of one solution, in the order of the method's parts."""
    for kind, shown in _SHOWN.items():
        if kind is Verification:
            for stage, made in found.items():
                yield from (_dropped(stage, row) for row in made.dropped if row.item_id == solution_id)
        for stage, row in _rows(found, kind):
            if solution_id in (getattr(row, "solution_id", None), getattr(row, "item_id", None)):
                yield shown(stage, row)


def _solution(stage: str, solution: Solution) -> str:
    ended = f", {solution.invalid.replace('_', ' ')}" if solution.invalid else ""
    title = f"{stage} {solution.id}: {_answer(solution)}{ended}"
    return "\n".join([title, *(_inset(f"{number}. {step}") for number, step in _counted(solution.steps))])


def _scores(stage: str, scores: SolutionScores) -> str:
    lines = [
        f"{stage}, by {scores.completer or 'an unnamed completer'}: from the start {_count(scores.start)}",
        *_completions(scores.start),
    ]
    for number, score in _counted(scores.steps):
        lines += [_inset(f"after step {number}: {_count(score)}"), *_completions(score)]
    return "\n".join(lines)


def _completions(score: StepScore) -> Iterator[str]:
    for kept in score.completions:
        yield indent(f"completion, {_right(kept.correct)}:\n{kept.text}", " " * 8)


def _count(score: StepScore) -> str:
    if score.origin == "zero_rule":
        return "0, not sampled after a 0"
    if score.origin == "skipped":
        return "not sampled"
    failed = f", {score.failed} failed" if score.failed else ""
    own = ", its own answer" if score.origin == "answer" else ""
    sure = ""
    if score.total and score.origin == "sampled":
        low, high = wilson(score.correct, score.total)
        sure = f" [{low:.0f}, {high:.0f}] %"
    return f"{score.correct}/{score.total}{sure}{failed}{own}"


def _labels(stage: str, labels: SolutionLabels) -> str:
    said = ", ".join(_label(label) for label in labels.labels)
    rule = labels.method if labels.threshold is None else f"{labels.method} from {labels.threshold:g}"
    return f"{stage}, {rule}: {said}; first error: {_step(labels.first_error)}"


def _label(label: StepLabel) -> str:
    word = {True: "right", False: "wrong", None: "unknown"}[label.label]
    if label.reason in ("undecided", "left_to_teacher"):
        word = label.reason.replace("_", " ")
    return word if label.below is None else f"{word} ({label.below:.2f})"


def _rationale(stage: str, rationale: Rationale) -> str:
    state = f"first error: {_step(rationale.first_error)}"
    if rationale.status != "ok":
        state = f"{rationale.status}: {rationale.reason or 'no reason given'}"
    title = f"{stage}, by {rationale.teacher or 'an unnamed teacher'}, sample {rationale.sample}: {state}"
    steps = (_inset(f"step {number}:\n{step.text.strip()}") for number, step in _counted(rationale.steps))
    return "\n".join([title, *steps])


def _consensus(stage: str, row: Consensus) -> str:
    return f"{stage}: kept, first error: {_step(row.first_error)}"


def _verification(stage: str, row: Verification) -> str:
    return f"{stage}, by {row.verifier or 'an unnamed verifier'}:\n{_inset(verdict_table(row))}"


def _chat(stage: str, chat: TrainingSample) -> str:
    turns = (_inset(f"[{turn.role}]\n{turn.content.strip()}") for turn in chat.conversations)
    return "\n".join([f"{stage} {chat.id}, {chat.form}, {chat.components}:", *turns])


def _selection(stage: str, row: Selection) -> str:
    lines = [f"{stage}, of {len(row.candidates)} candidates:"]
    for rule, choice in row.choices.items():
        chosen = choice.solution_id or f"nothing: {choice.reason}"
        lines.append(
            _inset(f"{rule}: {chosen}, answer {choice.answer or 'none'}, {_right(choice.correct)}")
        )
    return "\n".join(lines)


def _trace(stage: str, row: RefinementTrace) -> str:
    parts = [f"{stage} of {row.solution_id}, {row.mode}:"]
    for turn in row.turns:
        why = f", kept: {turn.reason}" if turn.reason else ""
        parts.append(_inset(f"turn {turn.turn}: {_answer(turn.solution)}{why}"))
        if turn.changed:
            parts.append(indent("\n".join(turn.solution.steps), " " * 8))
        if turn.critique is not None:
            parts.append(
                indent(f"critique of step {turn.critique.step + 1}: {turn.critique.analysis}", " " * 8)
            )
    return "\n".join(parts)


def _dropped(stage: str, row: Dropped) -> str:
    count = f" ({row.count})" if row.count > 1 else ""
    detail = f": {row.detail}" if row.detail else ""
    texts = (_inset(f"for example {example.id}:\n{example.text.strip()}") for example in row.examples)
    return "\n".join([f"dropped by {stage}: {row.reason}{count}{detail}", *texts])


def _answer(solution: Solution) -> str:
    return f"answer {solution.answer or 'none'}, {_right(solution.correct)}"


def _right(correct: bool | None) -> str:
    return {True: "right", False: "wrong", None: "not graded"}[correct]


def _step(first_error: int | None) -> str:
    if first_error is None:
        return "unknown"
    return "none" if first_error == NO_ERROR else f"step {first_error + 1}"


def _counted(values: tuple[Any, ...]) -> Iterator[tuple[int, Any]]:
    return iter(enumerate(values, start=1))


def _inset(text: str) -> str:
    return indent(text, "    ")


_SHOWN: dict[type[BaseModel], Callable[[str, Any], str]] = {
    SolutionScores: _scores,
    SolutionLabels: _labels,
    Rationale: _rationale,
    Consensus: _consensus,
    Verification: _verification,
    TrainingSample: _chat,
}
"""How what was made of a solution is shown, in the order of the method's parts."""
