"""The figures of `report.json` as sections of charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from genprm.view.charts import Series, bars, lines, stacked
from genprm.view.figures import Figure, count, figure, listed, lookup, percent

MODES = ("direct", "cot", "cot+code", "cot+code+execution")
FULL = MODES[-1]
MODE_NAMES = {
    "direct": "direct (no rationale)",
    "cot": "CoT",
    "cot+code": "CoT + code",
    "cot+code+execution": "CoT + code + run",
}
METHODS = {"hard": "hard (MC > 0)", "difference": "difference", "ratio": "ratio (RPE)"}
SELECTORS = {
    "pass@n": ("Pass@N (oracle)", 6),
    "last": ("GenPRM, last", 3),
    "mean": ("GenPRM, mean", 1),
    "min": ("GenPRM, min", 4),
    "majority": ("majority", 2),
    "pass@1": ("Pass@1", 5),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column names the rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Figure]]]


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page."""

    id: str
    title: str
    lead: str
    charts: Sequence[Markup] = ()
    tables: Sequence[Table] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure in the page's head, next to what it is to be compared with."""

    title: str
    value: Figure
    beside: Sequence[tuple[str, Figure]]


def build_sections(report: Mapping[str, Any]) -> list[Section]:
    """All sections, those without a figure included: they say what is unknown."""
    return [
        labels_section(report),
        consensus_section(report),
        localisation_section(report),
        best_of_n_section(report),
        refinement_section(report),
        cost_section(report),
    ]


def voting_key(report: Mapping[str, Any]) -> str:
    """The key of the voted metrics, such as `maj@8`."""
    modes, _ = lookup(report, "localisation", FULL)
    keys = [key for key in modes if str(key).startswith("maj@")] if isinstance(modes, Mapping) else []
    return str(keys[0]) if keys else "maj@8"


def headline(report: Mapping[str, Any]) -> list[Tile]:
    """The four comparisons that the method is about."""
    voted = voting_key(report)
    largest = _sizes(report)[-1]
    critic, alone = listed(report, "refinement", "critic"), listed(report, "refinement", "self")
    return [
        Tile(
            f"Error localisation, F1, {_voted_name(voted)}",
            percent(report, "localisation", FULL, voted, "f1"),
            [
                ("Pass@1", percent(report, "localisation", FULL, "pass@1", "f1")),
                ("direct baseline", percent(report, "localisation", "direct", voted, "f1")),
            ],
        ),
        Tile(
            f"Best-of-{largest}, mean score",
            percent(report, "best_of_n", largest, "mean"),
            [
                ("majority", percent(report, "best_of_n", largest, "majority")),
                ("Pass@1", percent(report, "best_of_n", largest, "pass@1")),
            ],
        ),
        Tile(
            f"After {len(critic) - 1} critic turns" if len(critic) > 1 else "After the critic's turns",
            critic[-1],
            [("turn 0", critic[0]), ("self-refinement", alone[-1])],
        ),
        Tile(
            "Labels by relative progress, accuracy",
            percent(report, "labels", "accuracy", "ratio"),
            [
                ("hard labels", percent(report, "labels", "accuracy", "hard")),
                ("difference", percent(report, "labels", "accuracy", "difference")),
            ],
        ),
    ]


def labels_section(report: Mapping[str, Any]) -> Section:
    """Accuracy of the automatic labels against the truth."""
    groups = list(METHODS.values())
    values = [percent(report, "labels", "accuracy", method) for method in METHODS]
    columns = {"accuracy": "solutions", "step_accuracy": "steps"}
    rows = [
        (name, [percent(report, "labels", key, method) for key in columns])
        for method, name in METHODS.items()
    ]
    total = count(report, "labels", "rows")
    return Section(
        "labels",
        "Labels against the truth",
        f"How often the label made from Monte-Carlo estimates is the true one, on {_amount(total, 'solution')}. A "
        "solution counts as right where its first wrong step is named exactly.",
        [bars("Label accuracy by method, in percent", groups, [Series("solutions", values, 1)])],
        [Table("Label accuracy", ["method", *columns.values()], rows)],
    )


def consensus_section(report: Mapping[str, Any]) -> Section:
    """What the filter kept, dropped, and gained."""
    kept, dropped = count(report, "consensus", "kept"), count(report, "consensus", "dropped")
    before = percent(report, "consensus", "accuracy_before")
    after = percent(report, "consensus", "accuracy_after")
    charts = []
    if kept.value is not None and dropped.value is not None and kept.value + dropped.value > 0:
        pieces = [("kept", kept.value, 1), ("dropped", dropped.value, 5)]
        charts.append(stacked("Share of solutions kept by the consensus filter", pieces))
    reasons, _ = lookup(report, "consensus", "reasons")
    rows = [("kept", [kept]), ("dropped", [dropped])]
    if isinstance(reasons, Mapping):
        ordered = sorted(reasons.items(), key=lambda item: str(item[0]))
        rows += [(f"dropped: {name}".replace("_", " "), [figure(amount)]) for name, amount in ordered]
    return Section(
        "consensus",
        "Consensus filter",
        "A solution is kept only where the teacher and the Monte-Carlo labels name the same first wrong step. "
        f"Label accuracy before the filter: {_written(before)}; after it: {_written(after)}.",
        charts,
        [Table("Kept and dropped", ["", "solutions"], rows)],
    )


def localisation_section(report: Mapping[str, Any]) -> Section:
    """Finding the first wrong step, by components and votes."""
    voted = voting_key(report)
    names = [MODE_NAMES[mode] for mode in MODES]
    single = [percent(report, "localisation", mode, "pass@1", "f1") for mode in MODES]
    together = [percent(report, "localisation", mode, voted, "f1") for mode in MODES]
    series = [Series("Pass@1", single, 2), Series(_voted_name(voted), together, 1)]
    metrics = {"f1": "F1", "error_accuracy": "erroneous", "correct_accuracy": "correct"}
    rows = []
    for mode in MODES:
        for key in ("pass@1", voted):
            figures = [percent(report, "localisation", mode, key, metric) for metric in metrics]
            unparsed = _unparsed(report, mode, key)
            rows.append((f"{MODE_NAMES[mode]}, {_voted_name(key)}", [*figures, unparsed]))
    total = count(report, "localisation", "solutions")
    return Section(
        "localisation",
        "Finding the first wrong step",
        f"F1 on {_amount(total, 'unseen solution')}: the harmonic mean of the accuracy on erroneous and on correct "
        "solutions. Pass@1 is one verification path, Maj@N the mean reward of N paths.",
        [bars("F1 by components, in percent", names, series)],
        [Table("Localisation", ["verifier", *metrics.values(), "unparsed"], rows)],
    )


def _unparsed(report: Mapping[str, Any], mode: str, key: str) -> Figure:
    value, reason = lookup(report, "localisation", mode, key, "unparsed")
    return figure(float(value) if isinstance(value, int) else value, reason, unit=" %")


def best_of_n_section(report: Mapping[str, Any]) -> Section:
    """Accuracy over the number of samples."""
    sizes = _sizes(report)
    series = [
        Series(name, [percent(report, "best_of_n", size, key) for size in sizes], colour)
        for key, (name, colour) in SELECTORS.items()
    ]
    rows = [(one.name, list(one.values)) for one in series]
    total = count(report, "best_of_n", "problems")
    return Section(
        "best-of-n",
        "Best-of-N",
        f"Share of {_amount(total, 'problem')} answered right when one of N sampled solutions is chosen by the "
        "verifier's score, against majority voting, the first sample, and an oracle.",
        [lines("Accuracy over N", sizes, series, "N, samples a problem (each mark doubles it)")],
        [Table("Accuracy by N", ["selection", *(f"N = {size}" for size in sizes)], rows)],
    )


def _sizes(report: Mapping[str, Any]) -> list[str]:
    found, _ = lookup(report, "best_of_n")
    sizes = [key for key in found if str(key).isdecimal()] if isinstance(found, Mapping) else []
    return sorted(map(str, sizes), key=int) or ["1", "2", "4", "8", "16"]


def refinement_section(report: Mapping[str, Any]) -> Section:
    """Accuracy over refinement turns."""
    series = [
        Series("critic", listed(report, "refinement", "critic"), 1),
        Series("self", listed(report, "refinement", "self"), 2),
    ]
    turns = max(len(one.values) for one in series)
    total = count(report, "refinement", "problems")
    missing = figure(None, "no such turn")
    rows = [
        (
            f"{name}-refinement" if name == "self" else "GenPRM as critic",
            [*values, *[missing] * (turns - len(values))],
        )
        for name, values in ((one.name, list(one.values)) for one in series)
    ]
    return Section(
        "refinement",
        "Refinement",
        f"Accuracy on {_amount(total, 'problem')} after each turn in which the policy rewrites its answer: told by "
        "GenPRM which step is wrong and why, or only asked to look again.",
        [lines("Accuracy over refinement turns", [str(t) for t in range(turns)], series, "turn")],
        [Table("Accuracy by turn", ["feedback", *(f"turn {turn}" for turn in range(turns))], rows)],
    )


def cost_section(report: Mapping[str, Any]) -> Section:
    """Tokens and seconds of each stage."""
    kinds = {
        "tokens": ("tokens", 0),
        "engine_seconds": ("engine, s", 1),
        "code_seconds": ("code, s", 1),
        "wall_seconds": ("wall, s", 1),
    }
    by_kind = {
        kind: value for kind in kinds if isinstance(value := lookup(report, "cost", kind)[0], Mapping)
    }
    stages = list(dict.fromkeys(str(stage) for value in by_kind.values() for stage in value))
    rows = [
        (
            stage,
            [figure(by_kind[kind].get(stage), "not recorded", digits=kinds[kind][1]) for kind in by_kind],
        )
        for stage in stages
    ]
    if rows:
        totals = [
            _total([figures[i] for _, figures in rows], kinds[kind][1]) for i, kind in enumerate(by_kind)
        ]
        rows.append(("all stages", totals))
    seconds = figure(lookup(report, "seconds")[0])
    return Section(
        "cost",
        "Cost",
        f"Wall time, set-up excluded: {_written(seconds)}{' s' if seconds.known else ''}. Tokens are those generated, "
        "or trained on. Engine and code seconds are summed over concurrent requests and executions.",
        [],
        [Table("Cost by stage", ["stage", *(kinds[kind][0] for kind in by_kind)], rows)] if rows else [],
    )


def _total(figures: Sequence[Figure], digits: int) -> Figure:
    known = sum(f.value for f in figures if f.value is not None)
    return figure(int(known) if not digits else known, digits=digits)


def provenance(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Seed, training runs and versions, as names and texts."""
    rows = [("seed", str(report.get("seed", "unknown")))]
    trained, _ = lookup(report, "training")
    if isinstance(trained, Mapping):
        for form, facts in trained.items():
            if isinstance(facts, Mapping):
                text = ", ".join(
                    f"{key.replace('_', ' ')} {figure(v, digits=3).text}" for key, v in facts.items()
                )
                rows.append((f"training, {form}", text))
    versions, _ = lookup(report, "versions")
    if isinstance(versions, Mapping):
        rows += [(str(name), str(number)) for name, number in versions.items()]
    return rows


def _voted_name(key: str) -> str:
    return key.capitalize()


def _amount(total: Figure, noun: str) -> str:
    if total.value is None:
        return f"an unknown number of {noun}s"
    return f"{total.text} {noun}{'' if total.value == 1 else 's'}"


def _written(value: Figure) -> str:
    return value.text if value.known else f"unknown ({value.reason})"
