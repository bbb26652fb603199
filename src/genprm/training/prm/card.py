"""The model card of a discriminative process reward model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genprm.store import write_atomic
from genprm.training.prm.folder import CARD

if TYPE_CHECKING:
    from genprm.training.prm.job import PrmReport

_SHOWN = 5


def write_prm_card(folder: Path, report: PrmReport, sources: Sequence[str]) -> None:
    """Write README.md beside the weights: what the model is, what it was trained on, and how.

    Args:
        sources: where the labelled solutions come from, or the rules that labelled them.
    """
    write_atomic(folder / CARD, prm_card(report, sources).encode())


def prm_card(report: PrmReport, sources: Sequence[str]) -> str:
    """The card's text, Markdown with a hub's front matter."""
    options = report.options
    separator = options["separator"]
    shown = [*sources[:_SHOWN], *([f"{len(sources) - _SHOWN} more"] if len(sources) > _SHOWN else [])]
    steps = (
        "all labelled steps" if options["steps"] == "all" else "labelled steps up to the first wrong one"
    )
    last = sum(report.losses[-10:]) / len(report.losses[-10:])
    rows = {
        "solutions": f"{report.solutions:,}",
        "left out": f"{report.dropped_unlabelled:,} without a label, {report.dropped_too_long:,} too long",
        "steps": f"{report.right_steps:,} right, {report.wrong_steps:,} wrong, {report.unknown_steps:,} unknown, "
        f"{report.cut_steps:,} cut off",
        "loss on": steps,
        "source of the labels": "; ".join(shown) or "not recorded",
    }
    training = {
        "started from": report.model,
        "optimizer steps": f"{report.steps:,} of {options['batch_size']} solutions",
        "learning rate": f"{options['learning_rate']:g}, {options['schedule']}",
        "adapters": f"LoRA of rank {options['lora_rank']}, merged" if options["lora_rank"] else "none",
        "precision": f"{report.precision} on {report.device}",
        "loss": f"{report.losses[0]:.4f} in the first step, {last:.4f} in the last ones, nats per labelled step",
        "seed": str(report.seed),
        "versions": ", ".join(f"{name} {value}" for name, value in report.versions.items()),
        "job": report.job,
    }
    return f"""---
library_name: transformers
pipeline_tag: token-classification
tags: [process-reward-model, genprm]
---

# A discriminative process reward model

Two classes, `wrong` (0) and `right` (1), read at each step's last token. The text is the problem, {separator!r}, step 1,
{separator!r}, step 2, {separator!r}, and so on; every part is tokenized by itself, and a step is judged at the last token
of the separator behind it. The reward is the softmax probability of `right`.

    genprm verify --model FOLDER --problem TEXT --solution TEXT

## Data

{_table(rows)}
## Training

{_table(training)}
## Evaluation

Not measured by the training job. `genprm eval processbench FILES --model FOLDER` measures it, with intervals.
"""


def _table(rows: dict[str, str]) -> str:
    lines = [
        "| | |",
        "|---|---|",
        *(f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items()),
    ]
    return "\n".join(lines) + "\n"
