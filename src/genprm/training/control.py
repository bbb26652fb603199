"""Control tokens of a model inside of texts: with them, turns would seem to end and begin in the middle of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from genprm.errors import TrainingError
from genprm.records import LabelledSolution

UnfitReason = Literal["control_token", "rewritten"]
_SHOWN = 20
_NAMED = 10


class UnfitText(TrainingError):
    """A text that cannot be trained on as it is with this model, whatever others are."""

    def __init__(self, message: str, reason: UnfitReason, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.reason: UnfitReason = reason


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The texts of a tokenizer's control tokens, such as the ends of turns."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return tuple(sorted({token.content for token in added if token.special}))


def refuse_control_tokens(text: str, marks: Sequence[str], place: str, row: str) -> None:
    """Raise if a text spells a control token.

    Args:
        marks: see `control_tokens`.
        place: names the text; begins the message.
        row: what holds it, for the hint: `chat` or `solution`.

    Raises:
        UnfitText: naming the token, with what stands around it.
    """
    mark = next((mark for mark in marks if mark in text), None)
    if mark is not None:
        at = text.index(mark)
        around = text[max(0, at - _SHOWN) : at + len(mark) + _SHOWN]
        raise UnfitText(
            f"{place} holds '{mark}', a control token of the model: {around!r}",
            "control_token",
            hint=f"leave this {row} out, or write those characters in another way",
        )


def refuse_in_solutions(solutions: Sequence[LabelledSolution], marks: Sequence[str]) -> None:
    """`refuse_control_tokens` for problems and steps, with the ids of all solutions that hold one.

    Raises:
        TrainingError: about the first of them.
    """
    found = [
        row
        for row in solutions
        if any(mark in text for text in (row.problem, *row.steps) for mark in marks)
    ]
    if not found:
        return
    try:
        _refuse_in(found[0], marks)
    except TrainingError as error:
        if len(found) == 1:
            raise
        ids = ", ".join(f"'{row.id}'" for row in found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
        raise TrainingError(
            error.message,
            hint=f"leave {len(found)} of {len(solutions)} solutions out, which hold such characters, or write those in "
            f"another way: {ids}",
        ) from error


def _refuse_in(solution: LabelledSolution, marks: Sequence[str]) -> None:
    of = f"of solution '{solution.id}'"
    refuse_control_tokens(solution.problem, marks, f"the problem {of}", "solution")
    for number, step in enumerate(solution.steps, start=1):
        refuse_control_tokens(step, marks, f"step {number} {of}", "solution")
