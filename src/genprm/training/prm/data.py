"""Labelled solutions as token ids with a class at each step's last token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from genprm.errors import TrainingError
from genprm.records import LabelledSolution
from genprm.text.step_tokens import StepLayout
from genprm.training.control import control_tokens, refuse_in_solutions

IGNORED = -100
"""The class of a token that carries no loss, as transformers expects it."""
NAMES = {0: "wrong", 1: "right"}


@dataclass(frozen=True, slots=True)
class EncodedSolution:
    """A labelled solution as tokens.

    Attributes:
        input_ids: [length] up to the last labelled step.
        labels: [length] 0 or 1 at a labelled step's last token, `IGNORED` elsewhere.
    """

    input_ids: list[int]
    labels: list[int]


@dataclass(slots=True)
class Encoded:
    """What a training job's rows became.

    Attributes:
        rows: those with at least one step that carries the loss.
        counts: `right` and `wrong` steps that carry the loss, `unknown` steps whose label is not known, `cut` steps
            beyond the length bound, and solutions without a labelled step (`unlabelled`) or without one that fits
            (`too_long`).
    """

    rows: list[EncodedSolution] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def encode_rows(
    rows: Sequence[LabelledSolution],
    tokenizer: Any,
    layout: StepLayout,
    *,
    steps: Literal["all", "to_first_error"],
    max_length: int,
) -> Encoded:
    """Tokens and classes of all rows.

    A step depends on the ones before it alone, so what lies behind the last labelled step that fits is cut off without
    changing anything else.

    Raises:
        TrainingError: a row that holds a control token of the model; nothing is left to train on, or all labels are one
            class.
    """
    found = Encoded()
    refuse_in_solutions(rows, control_tokens(tokenizer))
    for row in rows:
        encoded = _encode(row, tokenizer, layout, steps, max_length, found.counts)
        if encoded is not None:
            found.rows.append(encoded)
    counts = found.counts
    if not found.rows:
        dropped = f"{counts['unlabelled']} have no label, {counts['too_long']} are longer than {max_length} tokens"
        raise TrainingError(
            f"no labelled solutions to train on: {dropped}",
            hint="'genprm import' says what is wrong with a file; max_length bounds the tokens",
        )
    if not counts["right"] or not counts["wrong"]:
        only = "right" if counts["right"] else "wrong"
        raise TrainingError(
            f"all {counts[only]} labelled steps are {only}: a model learns nothing from one class",
            hint="give solutions with right and with wrong steps",
        )
    return found


def _encode(
    row: LabelledSolution,
    tokenizer: Any,
    layout: StepLayout,
    steps: Literal["all", "to_first_error"],
    max_length: int,
    counts: Counter[str],
) -> EncodedSolution | None:
    labels = _trained(row.labels, steps)
    if all(label is None for label in labels):
        counts["unlabelled"] += 1
        return None
    tokens = layout.encode(tokenizer, row.problem, row.steps)
    fitting = [
        (end, label)
        for end, label in zip(tokens.ends, labels, strict=True)
        if label is not None and end < max_length
    ]
    counts["cut"] += sum(label is not None for label in labels) - len(fitting)
    if not fitting:
        counts["too_long"] += 1
        return None
    counts["unknown"] += sum(label is None for label in row.labels)
    counts.update(NAMES[label] for _, label in fitting)
    length = fitting[-1][0] + 1
    classes = [IGNORED] * length
    for end, label in fitting:
        classes[end] = int(label)
    return EncodedSolution(tokens.ids[:length], classes)


def _trained(
    labels: Sequence[bool | None], steps: Literal["all", "to_first_error"]
) -> tuple[bool | None, ...]:
    """The labels that carry the loss; the others are unknown."""
    if steps == "all" or False not in labels:
        return tuple(labels)
    first = labels.index(False)
    return (*labels[: first + 1], *[None] * (len(labels) - first - 1))


def collate(rows: Sequence[EncodedSolution], pad: int) -> dict[str, Any]:
    """`input_ids`, `attention_mask` and `labels`, [rows, longest length], padded on the right."""
    import torch

    width = max(len(row.input_ids) for row in rows)
    return {
        "input_ids": torch.tensor([[*r.input_ids, *[pad] * (width - len(r.input_ids))] for r in rows]),
        "attention_mask": torch.tensor(
            [[1] * len(r.input_ids) + [0] * (width - len(r.input_ids)) for r in rows]
        ),
        "labels": torch.tensor([[*r.labels, *[IGNORED] * (width - len(r.labels))] for r in rows]),
    }
