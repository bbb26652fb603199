"""A report as the page shows it: its tiles, its sections, and where its figures come from."""

from __future__ import annotations

from genprm.records import BenchmarkSection, LocalisationSection, RefinementSection, Report
from genprm.view.evaluation import (
    benchmark_section,
    best_of_n_section,
    localisation_section,
    refinement_section,
)
from genprm.view.figures import figure, percent
from genprm.view.parts import METHOD_NAMES, MODE_NAMES, Section, Tile, main_votes, votes_name
from genprm.view.synthesis import consensus_section, cost_section, labels_section, training_section


def build_sections(report: Report) -> list[Section]:
    """The sections that the report has, in the order of the pipeline after the benchmark."""
    found = [
        benchmark_section(report.benchmark) if report.benchmark else None,
        labels_section(report.labels) if report.labels else None,
        consensus_section(report.consensus) if report.consensus else None,
        training_section(report.training.items()) if report.training else None,
        localisation_section(report.localisation) if report.localisation else None,
        best_of_n_section(report.best_of_n) if report.best_of_n else None,
        refinement_section(report.refinement) if report.refinement else None,
        cost_section(report.cost, report.seconds) if report.cost else None,
    ]
    return [section for section in found if section]


def headline(report: Report) -> list[Tile]:
    """The comparisons that the method is about, as far as the report has them."""
    tiles = []
    if report.benchmark and report.benchmark.average:
        tiles += _benchmark_tiles(report.benchmark)
    if report.localisation and report.localisation.modes:
        tiles.append(_localisation_tile(report.localisation))
    if report.best_of_n and report.best_of_n.sizes:
        size, row = list(report.best_of_n.sizes.items())[-1]
        beside = [("majority", percent(row["majority"])), ("Pass@1", percent(row["pass@1"]))]
        tiles.append(Tile(f"Best-of-{size}, mean score", percent(row["mean"]), beside))
    if report.refinement and report.refinement.critic:
        tiles.append(_refinement_tile(report.refinement))
    if report.labels:
        accuracy = report.labels.accuracy
        beside = [
            (METHOD_NAMES[method], percent(accuracy[method])) for method in accuracy if method != "ratio"
        ]
        tiles.append(Tile("Labels by relative progress, accuracy", percent(accuracy["ratio"]), beside))
    return tiles


def _benchmark_tiles(benchmark: BenchmarkSection) -> list[Tile]:
    main = main_votes(benchmark.average)
    one = benchmark.average[main]
    beside = [
        (votes_name(key), percent(other.f1)) for key, other in benchmark.average.items() if key != main
    ]
    lost = [("unparsed", percent(one.unparsed)), ("failed", percent(one.failed))]
    return [
        Tile(f"Average F1, {votes_name(main)}", percent(one.f1), beside),
        Tile("Erroneous solutions, first error named", percent(one.error_accuracy), lost[:1]),
        Tile("Correct solutions, no error named", percent(one.correct_accuracy), lost[1:]),
    ]


def _localisation_tile(localisation: LocalisationSection) -> Tile:
    present = [mode for mode in MODE_NAMES if mode in localisation.modes]
    figures = localisation.modes[present[-1]]
    main = main_votes(figures)
    beside = [(votes_name(key), percent(one.f1)) for key, one in figures.items() if key != main]
    direct = localisation.modes.get("direct")
    if direct and present[-1] != "direct":
        beside.append(("direct baseline", percent(direct[main_votes(direct)].f1)))
    return Tile(f"Error localisation, F1, {votes_name(main)}", percent(figures[main].f1), beside)


def _refinement_tile(refinement: RefinementSection) -> Tile:
    turns = len(refinement.critic) - 1
    beside = [("turn 0", percent(refinement.critic[0]))]
    if refinement.self:
        beside.append(("self-refinement", percent(refinement.self[-1])))
    return Tile(
        f"After {turns} critic turn{'' if turns == 1 else 's'}", percent(refinement.critic[-1]), beside
    )


def facts(report: Report) -> list[tuple[str, str]]:
    """Where the figures come from, as names and texts."""
    origin = report.provenance
    rows = [
        ("made", origin.date),
        ("command", origin.command or "from Python"),
        ("seed", str(report.seed)),
        ("commit", origin.git_commit or "installed package"),
    ]
    rows += [(name, str(value)) for name, value in origin.machine.items() if value is not None]
    if report.benchmark:
        model = report.benchmark.model
        rows += [("model", model.name), ("server", model.url or "none: it ran in this process")]
        rows += [("identity", model.identity or "unknown: the server does not say")]
        rows += [("components", model.components or "none: it writes nothing"), ("votes", str(model.votes))]
        rows += [(f"data, {split}", name) for split, name in report.benchmark.data.items()]
    if report.seconds is not None:
        rows.append(("wall time", figure(report.seconds, unit=" s").text))
    return rows + list(report.versions.items())
