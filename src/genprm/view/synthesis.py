"""How the verifier came about: labels, consensus, training, cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from genprm.records import ConsensusSection, CostSection, LabelsSection, TrainingSection
from genprm.view.charts import Series, bars, stacked
from genprm.view.figures import Figure, figure, percent
from genprm.view.parts import METHOD_NAMES, Section, Table, amount


def labels_section(labels: LabelsSection) -> Section:
    """Accuracy of the automatic labels against the truth."""
    names = {method: name for method, name in METHOD_NAMES.items() if method in labels.accuracy}
    values = [percent(labels.accuracy[method]) for method in names]
    shares = (labels.accuracy, labels.step_accuracy, labels.unknown)
    table = Table(
        "Label accuracy",
        ["method", "solutions", "steps", "unknown"],
        [(name, [percent(one[method]) for one in shares]) for method, name in names.items()],
        "A solution counts as right when its first wrong step is named exactly; steps are compared up to the earlier "
        "of the two first errors; unknown labels name no first error and count as wrong. With the estimator `sequential` "
        "or `binary` samples are drawn for the run's own rule alone, so that other rules lack some.",
    )
    chart = bars(
        "Label accuracy by method, in percent",
        list(names.values()),
        [Series("solutions", values, 1)],
    )
    return Section(
        "labels",
        "Labels against the truth",
        f"How often the label made from Monte-Carlo estimates is the true one, on {amount(labels.rows, 'solution')}. "
        "Truth is whether a step is right; relative progress measures whether it is right and beneficial, so that no "
        "number of completions brings ratio and posterior labels to 100.",
        [chart],
        [table, *_unseen(labels)],
    )


def _unseen(labels: LabelsSection) -> list[Table]:
    if not labels.unseen:
        return []
    rows = [(kind.replace("_", " "), [percent(share)]) for kind, share in labels.unseen.items()]
    return [
        Table(
            "Errors that Monte-Carlo misses",
            ["first wrong step", "completions still end right"],
            rows,
            "After such an error some completions end right: they repair it, or it does not reach the answer.",
        )
    ]


def consensus_section(consensus: ConsensusSection) -> Section:
    """What the consensus kept, dropped, and gained."""
    charts = []
    if consensus.kept + consensus.dropped:
        pieces = [("kept", float(consensus.kept), 1), ("dropped", float(consensus.dropped), 5)]
        charts.append(stacked("Solutions kept and dropped by the consensus", pieces))
    counts = {"kept": consensus.kept, "dropped": consensus.dropped}
    counts |= {f"dropped: {name}".replace("_", " "): n for name, n in sorted(consensus.reasons.items())}
    amounts = Table(
        "Kept and dropped",
        ["", "solutions"],
        [(name, [figure(count)]) for name, count in counts.items()],
        "Every solution is kept, or dropped for the reason that the check came to first.",
    )
    accuracy = Table(
        "Label accuracy",
        ["consensus", "solutions", "steps"],
        [
            ("before", [percent(consensus.accuracy_before), percent(consensus.step_accuracy_before)]),
            ("after", [percent(consensus.accuracy_after), percent(consensus.step_accuracy_after)]),
        ],
        "How right the labels are before the consensus, and among the solutions that it kept.",
    )
    return Section(
        "consensus",
        "Consensus",
        "A solution is kept only when the teacher and the Monte-Carlo labels name the same first wrong step.",
        charts,
        [amounts, accuracy],
    )


def training_section(jobs: Iterable[tuple[str, TrainingSection]]) -> Section:
    """What the training jobs did, by the form of their samples."""
    rows = [
        (
            f"{form} ({'stopped by the time budget' if job.ended_by == 'seconds' else 'complete'})",
            [
                figure(job.samples),
                figure(job.dropped_too_long),
                figure(job.steps),
                figure(job.tokens),
                figure(job.loss_first, "not a finite number", digits=3),
                figure(job.loss_last, "not a finite number", digits=3),
            ],
        )
        for form, job in jobs
    ]
    table = Table(
        "Training jobs",
        ["form", "samples", "too long", "steps", "tokens", "first loss", "last loss"],
        rows,
        "Losses are means in nats per trained token: of the first step, and of the last ten.",
    )
    return Section(
        "training",
        "Training",
        "Supervised fine-tuning on the kept solutions: as rationales, and as bare judgements for the direct baseline.",
        [],
        [table],
    )


def cost_section(cost: CostSection, seconds: float | None) -> Section:
    """Tokens and seconds of each stage."""
    uncounted = {stage: cost.uncounted.get(stage, 0) for stage in cost.tokens} if cost.uncounted else {}
    columns: dict[str, tuple[Mapping[str, float], int]] = {
        "tokens": (cost.tokens, 0),
        "requests without a count of tokens": (uncounted, 0),
        "engine, s": (cost.engine_seconds, 1),
        "code, s": (cost.code_seconds, 1),
        "wall, s": (cost.wall_seconds, 1),
    }
    columns = {name: column for name, column in columns.items() if column[0]}
    stages = list(dict.fromkeys(stage for values, _ in columns.values() for stage in values))
    rows: list[tuple[str, Sequence[Figure]]] = [
        (
            stage,
            [
                figure(values.get(stage), "not recorded", digits=digits)
                for values, digits in columns.values()
            ],
        )
        for stage in stages
    ]
    totals = [figure(math.fsum(values.values()), digits=digits) for values, digits in columns.values()]
    rows.append(("all stages", totals))
    wall = figure(seconds, "it was not measured", unit=" s")
    return Section(
        "cost",
        "Cost",
        f"Wall time, set-up excluded: {wall.full}.",
        [],
        [
            Table(
                "Cost by stage",
                ["stage", *columns],
                rows,
                "Tokens are those generated, or trained on. Engine and code seconds are totals over concurrent "
                "requests and executions, so they exceed wall time.",
            )
        ],
    )
