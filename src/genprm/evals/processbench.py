"""ProcessBench: solutions whose first error humans marked (Qwen/ProcessBench; 0-based, -1 for none)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genprm.errors import DataError
from genprm.evals.metrics import Judged, average_metrics, path_metrics
from genprm.evals.predictions import Prediction, prediction, prediction_of_path, vote_first_error
from genprm.records import (
    NO_ERROR,
    BenchmarkModel,
    BenchmarkSection,
    LocalisationFigures,
    Sampling,
    Verification,
)
from genprm.sources import load_solutions
from genprm.text.counts import counted

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


def load_processbench(path: str | Path, split: str = "gsm8k") -> list[ProcessBenchItem]:
    """The items of a ProcessBench file (`.json`, `.jsonl` or `.parquet`).

    `hub:Qwen/ProcessBench` loads `split` (one of `SPLITS`) from the hub instead.

    Raises `DataError` for a row without a usable label.
    """
    items = []
    for problem, solution in load_solutions(path, split):
        notes = problem.metadata
        label = notes.get("label")
        if not isinstance(label, int) or isinstance(label, bool):
            raise DataError(
                f"{path}: item '{problem.id}': field 'label' is {label!r}",
                hint="it must be the 0-based index of the first wrong step, or -1",
            )
        if not NO_ERROR <= label < len(solution.steps):
            raise DataError(
                f"{path}: item '{problem.id}': label {label} (from 0) of {counted(len(solution.steps), 'step')}"
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


def sample_items(
    items: Sequence[ProcessBenchItem], limit: int | None, seed: int = 0
) -> list[ProcessBenchItem]:
    """At most `limit` items, drawn at random with the split's own share of erroneous rows, in their order.

    A file may be sorted, so its first rows are no sample of it. Shares are kept by the largest remainder, with a
    tie going to the erroneous rows. With one seed, a larger limit holds the rows of every smaller one.
    """
    if limit is None or limit >= len(items):
        return list(items)
    wrong = [index for index, item in enumerate(items) if item.label != NO_ERROR]
    right = [index for index, item in enumerate(items) if item.label == NO_ERROR]
    quota = (2 * limit * len(wrong) + len(items)) // (2 * len(items))  # rounds halves up
    generator = random.Random(seed)
    for rows in (wrong, right):
        generator.shuffle(rows)
    return [items[index] for index in sorted([*wrong[:quota], *right[: limit - quota]])]


def evaluate(
    items: Sequence[ProcessBenchItem], predictions: Sequence[Prediction], *, seed: int = 0
) -> LocalisationFigures:
    """Metrics of predicted first errors, one per item; None (unparsed) counts as wrong and is reported."""
    return path_metrics(Judged([item.label for item in items], [predictions]), seed=seed)


def benchmark_section(
    splits: Mapping[str, Sequence[tuple[ProcessBenchItem, Verification]]],
    *,
    model: BenchmarkModel,
    data: Mapping[str, str],
    sampling: Sampling,
    each_path: bool = False,
    threshold: float = 0.5,
    seed: int = 0,
) -> BenchmarkSection:
    """The figures of a verifier on ProcessBench.

    With N votes it has `maj@N`, the verifier's own mean of rewards. With `each_path` it also has `pass@1`, the mean
    over the paths alone, and `first_error@N`, upstream's majority vote on the paths' predictions.

    Args:
        splits: split -> items with their verifications. `each_path` needs verifications in which every path
            continued to its own first error.
        threshold: of the verifier; a step whose reward reaches it is judged right.
        seed: of the resamples behind the intervals.
    """
    judged = {
        name: _judged(pairs, model.votes, each_path=each_path, threshold=threshold)
        for name, pairs in splits.items()
    }
    rules = list(next(iter(judged.values())))
    return BenchmarkSection(
        name="processbench",
        splits={
            name: {rule: path_metrics(one, seed=seed) for rule, one in by_rule.items()}
            for name, by_rule in judged.items()
        },
        average={
            rule: average_metrics([by_rule[rule] for by_rule in judged.values()], seed=seed)
            for rule in rules
        },
        data=dict(data),
        sampling=sampling,
        model=model,
    )


def _judged(
    pairs: Sequence[tuple[ProcessBenchItem, Verification]], votes: int, *, each_path: bool, threshold: float
) -> dict[str, Judged]:
    """What was predicted, by the rule of voting."""
    truth, rows = [item.label for item, _ in pairs], [row for _, row in pairs]
    together = Judged(truth, [[prediction(row) for row in rows]])
    if votes == 1:
        return {"pass@1": together}
    if not each_path:
        return {f"maj@{votes}": together}
    alone = [[prediction_of_path(row, path, threshold) for row in rows] for path in range(votes)]
    voted = [vote_first_error(guesses) for guesses in zip(*alone, strict=True)]
    return {
        "pass@1": Judged(truth, alone),
        f"maj@{votes}": together,
        f"first_error@{votes}": Judged(truth, [voted]),
    }
