"""What a verifier is worth: benchmarks, localisation, Best-of-N, refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from genprm.records import (
    BenchmarkSection,
    BestOfNSection,
    LocalisationFigures,
    LocalisationSection,
    RefinementSection,
    SelectionRule,
)
from genprm.view.charts import Series, bars, lines
from genprm.view.figures import Figure, figure, percent
from genprm.view.parts import MODE_NAMES, Section, Table, amount, main_votes, votes_name

SELECTORS: dict[SelectionRule, tuple[str, int]] = {
    "pass@n": ("Pass@N (oracle)", 6),
    "mean": ("GenPRM, mean", 1),
    "min": ("GenPRM, min", 4),
    "last": ("GenPRM, last", 3),
    "weighted": ("weighted vote", 7),
    "majority": ("majority", 2),
    "pass@1": ("Pass@1", 5),
}
_VOTE_COLOURS = {"pass": 2, "maj": 1, "first_error": 3}
_VOTES_SAY = {
    "pass": "Pass@1 is one verification path",
    "maj": "Maj@N takes the mean reward of N paths",
    "first_error": "First-error@N takes the most frequent of N predictions",
}
_NOT_MEASURED = figure(None, "not measured")

ByVotes = Mapping[str, LocalisationFigures]


def benchmark_section(benchmark: BenchmarkSection) -> Section:
    """A verifier on a benchmark, split by split."""
    groups = {**benchmark.splits, "average": benchmark.average}
    limit, seed = benchmark.sampling.limit, benchmark.sampling.seed
    if limit is None:
        rows = "all rows of each split"
    else:
        mix = (
            ", in the split's own mix of erroneous and correct ones"
            if benchmark.sampling.stratified
            else ""
        )
        rows = f"at most {limit:,} rows of each split, drawn with seed {seed}{mix}"
    counts = Table(
        "Solutions",
        ["split", "erroneous", "correct", "rows in the file"],
        [(name, _counts(benchmark, name, by_votes)) for name, by_votes in benchmark.splits.items()],
        "How many solutions of each kind were verified, and how many rows the split holds.",
    )
    return Section(
        "benchmark",
        f"Benchmark: {benchmark.name}",
        f"Finding the first wrong step in solutions that humans marked, on {rows}. {_votes_say(groups)}",
        [_f1_bars("F1 by split, in percent", groups)],
        [_localisation_table("Localisation by split", "split", groups), counts],
    )


def _counts(benchmark: BenchmarkSection, name: str, by_votes: ByVotes) -> list[Figure]:
    one = by_votes[main_votes(by_votes)]
    available = figure(benchmark.sampling.available.get(name), "not recorded")
    return [figure(one.erroneous), figure(one.correct), available]


def localisation_section(localisation: LocalisationSection) -> Section:
    """Finding the first wrong step, by components and votes."""
    modes = localisation.modes
    groups = {name: modes[mode] for mode, name in MODE_NAMES.items() if mode in modes}
    return Section(
        "localisation",
        "Finding the first wrong step",
        f"F1 on {amount(localisation.solutions, 'unseen solution')}, {localisation.erroneous:,} of them erroneous. "
        f"{_votes_say(groups)}",
        [_f1_bars("F1 by components, in percent", groups)],
        [_localisation_table("Localisation by components", "verifier", groups)],
    )


def _keys(groups: Mapping[str, ByVotes]) -> list[str]:
    return list(dict.fromkeys(key for by_votes in groups.values() for key in by_votes))


def _votes_say(groups: Mapping[str, ByVotes]) -> str:
    said = [_VOTES_SAY[kind] for kind in dict.fromkeys(key.split("@")[0] for key in _keys(groups))]
    return f"{'; '.join(said)}." if said else ""


def _f1_bars(title: str, groups: Mapping[str, ByVotes]) -> Markup:
    series = [
        Series(
            votes_name(key),
            [percent(one[key].f1) if key in one else _NOT_MEASURED for one in groups.values()],
            _VOTE_COLOURS[key.split("@")[0]],
        )
        for key in _keys(groups)
    ]
    return bars(title, list(groups), series)


def _localisation_table(caption: str, first: str, groups: Mapping[str, ByVotes]) -> Table:
    rows = [
        (f"{name}, {votes_name(key)}", _localisation_row(one))
        for name, by_votes in groups.items()
        for key, one in by_votes.items()
    ]
    return Table(
        caption,
        [first, "F1", "erroneous", "correct", "unparsed", "failed"],
        rows,
        "F1 is the harmonic mean of the accuracy on erroneous solutions (the first wrong step named exactly) and on "
        "correct ones (none named). Unparsed predictions count as wrong; failed ones, which an engine or a sandbox "
        "lost, count nowhere else.",
    )


def _localisation_row(one: LocalisationFigures) -> list[Figure]:
    shares = (one.f1, one.error_accuracy, one.correct_accuracy, one.unparsed, one.failed)
    return [percent(share) for share in shares]


def best_of_n_section(best: BestOfNSection) -> Section:
    """Accuracy over the number of samples."""
    sizes = best.sizes
    series = [
        Series(
            name,
            [percent(row[rule]) if rule in row else _NOT_MEASURED for row in sizes.values()],
            colour,
        )
        for rule, (name, colour) in SELECTORS.items()
    ]
    table = Table(
        "Accuracy by N",
        ["selection", *(f"N = {size}" for size in sizes)],
        [(one.name, list(one.values)) for one in series],
        "Each figure is an expectation over all draws of N from a problem's pool. Left out because nobody knows "
        f"whether they are right: {amount(best.ungraded, 'candidate')}; without a score: {best.unscored:,}. "
        f"How the candidates' answers were found: {_ways(best.answers)}.",
    )
    axis = "N, samples per problem"
    return Section(
        "best-of-n",
        "Best-of-N",
        f"Share of {amount(best.problems, 'problem')} answered right when one of N sampled solutions is chosen by the "
        "verifier's score, against votes, the first sample, and an oracle.",
        [lines("Accuracy over N", [str(size) for size in sizes], series, axis)],
        [table],
    )


def _ways(found: Mapping[str, int]) -> str:
    return ", ".join(f"{how} {count:,}" for how, count in found.items()) or "not recorded"


def refinement_section(refinement: RefinementSection) -> Section:
    """Accuracy over refinement turns."""
    critic = [percent(share) for share in refinement.critic]
    alone = [percent(share) for share in refinement.self]
    turns = [f"turn {turn}" for turn in range(max(len(critic), len(alone)))]
    accuracy = Table(
        "Accuracy by turn",
        ["feedback", *turns],
        [("GenPRM as critic", _padded(critic, turns)), ("self-refinement", _padded(alone, turns))],
        "Share of problems whose standing answer is right after each turn; turn 0 is the first solution.",
    )
    changed = [
        [figure(n) for n in counts] for counts in (refinement.critic_changed, refinement.self_changed)
    ]
    rewritten = Table(
        "Rewritten solutions",
        ["feedback", *turns[1:]],
        [
            ("GenPRM as critic", _padded(changed[0], turns[1:])),
            ("self-refinement", _padded(changed[1], turns[1:])),
        ],
        "How many solutions each turn rewrote; the others stand as they were.",
    )
    return Section(
        "refinement",
        "Refinement",
        f"Accuracy on {amount(refinement.problems, 'problem')} after each turn in which the policy rewrites its answer: "
        "with GenPRM naming the wrong step and why it is wrong, or only asked to look again.",
        [
            lines(
                "Accuracy over refinement turns",
                [str(turn) for turn in range(len(turns))],
                [Series("critic", critic, 1), Series("self", alone, 2)],
                "turn",
            )
        ],
        [accuracy, rewritten],
    )


def _padded(figures: Sequence[Figure], columns: Sequence[str]) -> list[Figure]:
    return [*figures, *[figure(None, "no such turn")] * (len(columns) - len(figures))]
