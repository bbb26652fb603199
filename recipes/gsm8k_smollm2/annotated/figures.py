"""Figures of verified solutions: what was covered, how well first errors were found, and by which rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genprm.evals.intervals import plain_share
from genprm.evals.metrics import localisation_metrics
from genprm.evals.predictions import Prediction
from genprm.evals.processbench import ProcessBenchItem, benchmark_section
from genprm.records import NO_ERROR, BenchmarkModel, Sampling, Verification
from genprm.rewards.voting import first_error

THRESHOLDS = tuple(step / 40 for step in range(2, 39))
"""Thresholds that the dev set chooses from; 0.5 is the method's own."""

Pairs = list[tuple[ProcessBenchItem, Verification]]


@dataclass(frozen=True, slots=True)
class Covered:
    """The solutions that count, with their verifications, and how many there are in all."""

    pairs: Pairs
    total: int


def read_covered(items: Sequence[ProcessBenchItem], shares: Sequence[Path]) -> Covered:
    """The verified solutions that make a fair sample of all.

    Share k took solutions k, k + N, ... in order. If time ran out, short solutions are over-represented among
    the last that were finished; so of each share only those before its first unfinished one count.
    """
    pairs: Pairs = []
    for index, path in enumerate(shares):
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = {row.item_id: row for row in map(Verification.model_validate_json, lines)}
        for item in items[index :: len(shares)]:
            if item.id not in rows:
                break
            pairs.append((item, rows[item.id]))
    return Covered(pairs, len(items))


def split_figures(
    covered: Covered, *, name: str, model: str, votes: int, direct: bool, threshold: float
) -> dict[str, Any]:
    """What is reported of a verifier on one set: figures at the threshold 0.5, and at the one that dev chose."""
    if not covered.pairs:
        return {"covered": 0, "of": covered.total, "reason": "no time was left for it"}
    section = benchmark_section(
        {name: covered.pairs},
        model=BenchmarkModel(
            name=model, votes=votes, components="direct" if direct else "cot+code+execution"
        ),
        data={name: name},
        sampling=Sampling(limit=None, seed=0, available={name: covered.total}),
        each_path=votes > 1,
    )
    truth = [item.label for item, _ in covered.pairs]
    predicted = [at_threshold(row, threshold) for _, row in covered.pairs]
    figures = {rule: one.model_dump(mode="json") for rule, one in section.splits[name].items()}
    figures["threshold from dev"] = localisation_metrics(truth, predicted).model_dump(mode="json")
    usage = [row.usage for _, row in covered.pairs]
    return {
        "covered": len(covered.pairs),
        "of": covered.total,
        "steps": sum(len(item.steps) for item, _ in covered.pairs),
        "completion_tokens": sum(one.completion_tokens for one in usage),
        "threshold": threshold,
        "figures": figures,
        "found by kind": by_kind(covered.pairs),
    }


def at_threshold(row: Verification, threshold: float) -> Prediction:
    """The first step whose mean reward is below a threshold."""
    return first_error([None if v.reward is None else v.reward >= threshold for v in row.verdicts])


def best_threshold(pairs: Pairs) -> float:
    """The threshold with the best F1 on these solutions; of equals the one nearest to 0.5; 0.5 for none."""
    truth = [item.label for item, _ in pairs]
    if len({label == NO_ERROR for label in truth}) < 2:
        return 0.5

    def score(threshold: float) -> tuple[float, float]:
        predicted = [at_threshold(row, threshold) for _, row in pairs]
        f1 = localisation_metrics(truth, predicted).f1.value
        return (f1 or 0.0, -abs(threshold - 0.5))

    return max(THRESHOLDS, key=score)


def by_kind(pairs: Pairs) -> Mapping[str, Any]:
    """Per origin of a solution (kind of corruption, or the model that wrote it): share whose label was found."""
    kinds = sorted({item.generator for item, _ in pairs})
    return {
        kind: plain_share(
            sum(row.first_error == item.label for item, row in pairs if item.generator == kind),
            sum(item.generator == kind for item, _ in pairs),
            "none was judged",
        ).model_dump(mode="json")
        for kind in kinds
    }
