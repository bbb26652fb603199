"""From records to the sections of the report. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from genprm.config import Components, LabelConfig
from genprm.evals.accuracy import share_correct
from genprm.evals.best_of_n import best_of_n_section
from genprm.evals.intervals import ratio_share
from genprm.evals.labels import LabelledSolution, LabelQuality, label_quality
from genprm.evals.metrics import Judged, path_metrics
from genprm.evals.predictions import prediction, prediction_of_path
from genprm.labels import label_solution
from genprm.records import (
    NO_ERROR,
    BestOfNSection,
    ConsensusSection,
    LabelMethod,
    LabelsSection,
    LocalisationFigures,
    LocalisationSection,
    Mode,
    Problem,
    RefinementSection,
    RefinementTrace,
    Share,
    Solution,
    SolutionLabels,
    SolutionScores,
    TrainingSection,
    Verification,
)
from genprm.search.best_of_n import Candidate
from genprm.worlds.arithmetic import first_error, judge_solution

if TYPE_CHECKING:
    from genprm.training import TrainReport

Pair = tuple[Problem, Solution]


def label_figures(
    scores: Sequence[SolutionScores], pairs: Sequence[Pair], options: LabelConfig
) -> LabelsSection:
    """Accuracy of each rule's labels, made from the same Monte-Carlo estimates, and what these cannot see."""
    quality: dict[LabelMethod, LabelQuality] = {}
    for method in get_args(LabelMethod):
        variant = options.model_copy(update={"method": method})
        quality[method] = _quality([label_solution(row, variant) for row in scores], pairs)
    return LabelsSection(
        rows=len(scores),
        accuracy={method: one.accuracy for method, one in quality.items()},
        step_accuracy={method: one.step_accuracy for method, one in quality.items()},
        unknown={method: one.unknown for method, one in quality.items()},
        unseen=_unseen(scores, pairs),
    )


def _unseen(scores: Sequence[SolutionScores], pairs: Sequence[Pair]) -> dict[str, Share]:
    """For each kind of first wrong step, how often MC is not 0 after it. Intervals are over problems."""
    by_id = {solution.id: (problem, solution) for problem, solution in pairs}
    found: dict[str, dict[str, list[bool]]] = {}
    for row in scores:
        problem, solution = by_id[row.solution_id]
        truth = judge_solution(problem, solution.steps)
        wrong = next((step for step, one in enumerate(truth) if not one.correct), None)
        value = None if wrong is None else row.steps[wrong].value
        if wrong is not None and value is not None:
            kind = truth[wrong].kind.value
            found.setdefault(kind, {}).setdefault(problem.id, []).append(value > 0)
    return {
        kind: ratio_share([sum(one) for one in seen.values()], [len(one) for one in seen.values()])
        for kind, seen in sorted(found.items())
    }


def consensus_figures(
    labels: Sequence[SolutionLabels], kept_ids: set[str], pairs: Sequence[Pair], reasons: Mapping[str, int]
) -> ConsensusSection:
    """What the consensus kept, and how right the labels are before and after it.

    Args:
        reasons: why -> solutions that were not kept.
    """
    kept = [row for row in labels if row.solution_id in kept_ids]
    before, after = _quality(labels, pairs), _quality(kept, pairs)
    return ConsensusSection(
        kept=len(kept),
        dropped=sum(reasons.values()),
        reasons=dict(reasons),
        accuracy_before=before.accuracy,
        accuracy_after=after.accuracy,
        step_accuracy_before=before.step_accuracy,
        step_accuracy_after=after.step_accuracy,
    )


def _quality(labels: Sequence[SolutionLabels], pairs: Sequence[Pair]) -> LabelQuality:
    by_id = {solution.id: (problem, solution) for problem, solution in pairs}
    compared = []
    for row in labels:
        problem, solution = by_id[row.solution_id]
        truth = first_error(problem, solution.steps)
        compared.append(LabelledSolution(problem.id, truth, row.first_error, len(solution.steps)))
    return label_quality(compared)


def training_figures(report: TrainReport) -> TrainingSection:
    """What a training job did."""
    return TrainingSection(
        samples=report.samples,
        dropped_too_long=report.dropped_too_long,
        steps=report.steps,
        tokens=report.tokens,
        loss_first=report.loss_first,
        loss_last=report.loss_last,
        ended_by=report.ended_by,
        seconds=report.seconds,
    )


def localisation_figures(
    pairs: Sequence[Pair],
    by_mode: Mapping[Components, Sequence[Verification]],
    votes: Mapping[Components, int],
    threshold: float = 0.5,
) -> LocalisationSection:
    """ProcessBench's metrics for each set of components.

    Pass@1 is the mean of the metrics of each path alone (paths are independent); Maj@N takes the mean reward of all
    paths.

    Args:
        by_mode: components -> verifications of the solutions, by `item_id`, in which every path continued to its own
            first error.
        votes: components -> paths of each verification. A single path has no Maj@N.
        threshold: of the verifier; a step whose reward reaches it is judged right.

    Raises:
        ValueError: a solution has no verification.
    """
    truth = [first_error(problem, solution.steps) for problem, solution in pairs]
    modes: dict[Mode, dict[str, LocalisationFigures]] = {}
    for mode, verifications in by_mode.items():
        rows = _in_order(pairs, verifications)
        paths = range(votes[mode])
        alone = [[prediction_of_path(row, path, threshold) for row in rows] for path in paths]
        modes[mode] = {"pass@1": path_metrics(Judged(truth, alone))}
        if len(paths) > 1:
            together = Judged(truth, [[prediction(row) for row in rows]])
            modes[mode][f"maj@{len(paths)}"] = path_metrics(together)
    return LocalisationSection.of(len(pairs), sum(index != NO_ERROR for index in truth), modes)


def best_of_n_figures(
    problems: Sequence[Problem],
    pairs: Sequence[Pair],
    rows: Sequence[Verification],
    sizes: Sequence[int],
    classes: Mapping[str, str | None],
) -> BestOfNSection:
    """Accuracy of Best-of-N and its baselines, as expectations over draws from each problem's pool.

    Args:
        pairs, rows: the pools' solutions, and their verifications by `item_id`.
        classes: the class of equal answers of each solution, by its id (`Domain.vote_classes`).

    Raises:
        ValueError: a solution has no verification.
    """
    pools: dict[str, list[Candidate]] = {problem.id: [] for problem in problems}
    for (problem, solution), row in zip(pairs, _in_order(pairs, rows), strict=True):
        pools[problem.id].append(Candidate(classes[solution.id], solution.correct, row.score))
    answers = Counter(solution.answer_how for _, solution in pairs)
    section = best_of_n_section(list(pools.values()), sizes)
    return section.model_copy(update={"answers": dict(sorted(answers.items()))})


def refinement_figures(
    critic: Sequence[RefinementTrace], alone: Sequence[RefinementTrace], turns: int
) -> RefinementSection:
    """Accuracy of the answer that stands after each turn, from turn 0 on.

    Args:
        critic, alone: traces with the verifier as critic, and of self-refinement, from the same first solutions.
    """
    accuracy = [
        tuple(
            share_correct([trace.turns[turn].solution.correct for trace in rows])
            for turn in range(turns + 1)
        )
        for rows in (critic, alone)
    ]
    changed = [
        tuple(sum(trace.turns[turn].changed for trace in rows) for turn in range(1, turns + 1))
        for rows in (critic, alone)
    ]
    return RefinementSection(
        problems=len(critic),
        critic=accuracy[0],
        self=accuracy[1],
        critic_changed=changed[0],
        self_changed=changed[1],
    )


def _in_order(pairs: Sequence[Pair], rows: Sequence[Verification]) -> list[Verification]:
    """The verification of each solution. Raises `ValueError` when one has none."""
    by_id = {row.item_id: row for row in rows}
    missing = [solution.id for _, solution in pairs if solution.id not in by_id]
    if missing:
        raise ValueError(f"no verification of {len(missing)} solutions, '{missing[0]}' among them")
    return [by_id[solution.id] for _, solution in pairs]
