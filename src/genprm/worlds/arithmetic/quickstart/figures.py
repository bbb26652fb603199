"""From records to the figures of report.json. Pure functions; percentages throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genprm.config import Components, LabelConfig
from genprm.domains.math import canonical
from genprm.evals.accuracy import share_correct
from genprm.evals.metrics import Localisation, label_quality, localisation_metrics, mean_metrics
from genprm.records import Problem, RefinementTrace, Solution, SolutionLabels, SolutionScores, Verification
from genprm.search.best_of_n import Candidate, evaluate
from genprm.synth.progress import label_solution
from genprm.worlds.arithmetic import first_error

Pair = tuple[Problem, Solution]


def truths(pairs: Sequence[Pair]) -> dict[str, int]:
    """The true first error of each solution, by its id."""
    return {solution.id: first_error(problem, solution.steps) for problem, solution in pairs}


def label_figures(
    scores: Sequence[SolutionScores], pairs: Sequence[Pair], options: LabelConfig
) -> dict[str, Any]:
    """Accuracy of hard, difference and ratio labels from the same Monte-Carlo estimates.

    A row is a solution: its labels are right where they name its true first error. Step accuracies
    are told beside it.
    """
    truth, lengths = truths(pairs), {solution.id: len(solution.steps) for _, solution in pairs}
    accuracy: dict[str, float | None] = {}
    steps: dict[str, float | None] = {}
    unknown: dict[str, float | None] = {}
    for method in ("hard", "difference", "ratio"):
        variant = options.model_copy(update={"method": method})
        labels = [label_solution(row, variant) for row in scores]
        quality = _quality(labels, truth, lengths)
        accuracy[method], steps[method], unknown[method] = quality
    return {"rows": len(scores), "accuracy": accuracy, "step_accuracy": steps, "unknown": unknown}


def consensus_figures(
    labels: Sequence[SolutionLabels], kept_ids: set[str], pairs: Sequence[Pair], reasons: Mapping[str, int]
) -> dict[str, Any]:
    """What the filter kept, and how right the labels are before and after it."""
    truth, lengths = truths(pairs), {solution.id: len(solution.steps) for _, solution in pairs}
    kept = [row for row in labels if row.solution_id in kept_ids]
    before, before_steps, _ = _quality(labels, truth, lengths)
    after, after_steps, _ = _quality(kept, truth, lengths)
    return {
        "kept": len(kept),
        "dropped": sum(reasons.values()),
        "reasons": dict(reasons),
        "accuracy_before": before,
        "accuracy_after": after,
        "step_accuracy_before": before_steps,
        "step_accuracy_after": after_steps,
    }


def _quality(
    labels: Sequence[SolutionLabels], truth: Mapping[str, int], lengths: Mapping[str, int]
) -> tuple[float | None, float | None, float | None]:
    quality = label_quality(
        [truth[row.solution_id] for row in labels],
        [row.first_error for row in labels],
        [lengths[row.solution_id] for row in labels],
    )
    return quality.accuracy, quality.step_accuracy, quality.unknown


def localisation_figures(
    pairs: Sequence[Pair], by_mode: Mapping[Components, Sequence[Verification]], votes: int
) -> dict[str, Any]:
    """ProcessBench's metrics for each set of components.

    Pass@1 is the mean of the metrics of each path alone (paths are independent); Maj@N takes the
    mean reward of all paths.
    """
    from genprm.rewards import first_error_of_path

    truth = [first_error(problem, solution.steps) for problem, solution in pairs]
    figures: dict[str, Any] = {"solutions": len(pairs), "erroneous": sum(index >= 0 for index in truth)}
    for mode, rows in by_mode.items():
        single = [
            localisation_metrics(truth, [first_error_of_path(row, path) for row in rows])
            for path in range(votes)
        ]
        together = localisation_metrics(truth, [row.first_error for row in rows])
        figures[mode] = {"pass@1": _metrics(mean_metrics(single)), f"maj@{votes}": _metrics(together)}
    return figures


def _metrics(metrics: Localisation) -> dict[str, float | None]:
    return {
        "error_accuracy": metrics.error_accuracy,
        "correct_accuracy": metrics.correct_accuracy,
        "f1": metrics.f1,
        "unparsed": metrics.unparsed,
    }


def best_of_n_figures(
    problems: Sequence[Problem], pairs: Sequence[Pair], rows: Sequence[Verification], sizes: Sequence[int]
) -> dict[str, Any]:
    """Accuracy of Best-of-N and its baselines, as exact expectations over draws from each pool."""
    pools: dict[str, list[Candidate]] = {problem.id: [] for problem in problems}
    for (problem, solution), row in zip(pairs, rows, strict=True):
        answer = canonical(solution.answer) if solution.answer is not None else None
        pools[problem.id].append(Candidate(answer, solution.correct, row.score))
    result = evaluate(list(pools.values()), sizes)
    figures: dict[str, Any] = {str(size): result.table[size] for size in sizes}
    evaluated = {str(size): count for size, count in result.evaluated.items()}
    counts = {"evaluated": evaluated, "ungraded": result.ungraded, "unscored": result.unscored}
    return {"problems": len(problems), **figures, **counts}


def refinement_figures(traces: Mapping[str, Sequence[RefinementTrace]], turns: int) -> dict[str, Any]:
    """Accuracy of the answer that stands after each turn, from turn 0 on."""
    figures: dict[str, Any] = {"problems": max((len(rows) for rows in traces.values()), default=0)}
    for kind, rows in traces.items():
        figures[kind] = [
            share_correct([trace.turns[turn].solution.correct for trace in rows])
            for turn in range(turns + 1)
        ]
        figures[f"{kind}_changed"] = [
            sum(trace.turns[turn].changed for trace in rows) for turn in range(1, turns + 1)
        ]
    return figures
