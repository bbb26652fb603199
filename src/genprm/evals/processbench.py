"""ProcessBench: solutions whose first error humans marked (Qwen/ProcessBench; 0-based, -1 for none)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genprm.errors import DataError
from genprm.evals.metrics import Localisation, localisation_metrics, mean_metrics
from genprm.records import NO_ERROR
from genprm.sources import load_solutions

SPLITS = ("gsm8k", "math", "olympiadbench", "omnimath")


@dataclass(frozen=True, slots=True)
class ProcessBenchItem:
    """One solution of ProcessBench.

    Attributes:
        label: index of the first wrong step, or NO_ERROR.
        final_answer_correct: whether its final answer is right, which a wrong step does not preclude.
        generator: the model that wrote it.
    """

    id: str
    problem: str
    steps: tuple[str, ...]
    label: int
    final_answer_correct: bool | None = None
    generator: str = ""


def load_processbench(
    path: str | Path, limit: int | None = None, split: str = "gsm8k"
) -> list[ProcessBenchItem]:
    """The items of a ProcessBench file (`.json`, `.jsonl` or `.parquet`), at most `limit`.

    `hub:Qwen/ProcessBench` loads `split` (one of `SPLITS`) from the hub instead.

    Raises `DataError` for a row without a usable label.
    """
    items = []
    for problem, solution in load_solutions(path, split)[:limit]:
        notes = problem.metadata
        label = notes.get("label")
        if not isinstance(label, int) or isinstance(label, bool):
            raise DataError(
                f"{path}: item '{problem.id}': field 'label' is {label!r}",
                hint="it must be the 0-based index of the first wrong step, or -1",
            )
        if not NO_ERROR <= label < len(solution.steps):
            raise DataError(
                f"{path}: item '{problem.id}': label {label}, but there are {len(solution.steps)} steps"
            )
        items.append(
            ProcessBenchItem(
                id=problem.id,
                problem=problem.text,
                steps=solution.steps,
                label=label,
                final_answer_correct=notes.get("final_answer_correct"),
                generator=str(notes.get("generator") or ""),
            )
        )
    return items


def evaluate(items: Sequence[ProcessBenchItem], predictions: Sequence[int | None]) -> Localisation:
    """Metrics of predicted first errors, one an item; None (unparsed) counts as wrong and is reported."""
    return localisation_metrics([item.label for item in items], predictions)


def average(splits: Mapping[str, Localisation]) -> Localisation:
    """The benchmark's average: the plain mean over splits."""
    return mean_metrics(list(splits.values()))
