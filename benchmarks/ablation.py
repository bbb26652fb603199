"""What each part of a verifier is worth, in the built-in world; one JSON object last.

    python benchmarks/ablation.py [--full | --quick] [--seeds 1,2,3] [--run-dir DIR] [--page FILE] [section.key=value ...]

Three questions, each over the seeds:

- components and training data, as in the paper's table 3: verifiers trained without rationales, on analyses alone, on
  code alone, and on all, asked for what they were trained on and, the full one, for less;
- votes: the full verifier with 1 to 16 of its votes (32 with `--full`);
- data: the full verifier from a quarter, a half and all of the problems.

Labels are the posterior rule's. Writes a page beside the JSON; a stopped run goes on where it was, and shares solutions,
counts and rationales with `label_rules.py` in the same run directory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import experiment_facts
import experiments
from experiments import Judging, Outcome, Variant

import genprm
from genprm.cli.console import show_error
from genprm.config import LabelConfig
from genprm.store import write_atomic
from genprm.view.charts import Series, bars, lines
from genprm.view.figures import Figure, figure, percent
from genprm.view.page import Page, render_page
from genprm.view.parts import Section, Table
from genprm.worlds.arithmetic.quickstart import QuickstartConfig

LABEL = LabelConfig(method="posterior")
DIRECT = Variant("direct", LABEL, form="direct")
COT = Variant("cot", LABEL, {"cot": 1.0})
CODE = Variant("code", LABEL, {"code+execution": 1.0})
# Each form has to be in the chats for the full verifier to be asked for less.
FULL = Variant("full", LABEL, {"cot+code+execution": 0.7, "cot+code": 0.1, "cot": 0.2})
HALF = Variant("half", LABEL, FULL.shares, part=0.5)
QUARTER = Variant("quarter", LABEL, FULL.shares, part=0.25)
PARTS = {"a quarter": QUARTER, "half": HALF, "all": FULL}
# Average F1 at Maj@8 on ProcessBench (GenPRM, arXiv 2504.00891, the ablation of components).
PAPER = {
    "nothing": 60.0,
    "code, not executed": 64.2,
    "code and execution": 69.6,
    "CoT": 78.8,
    "full data: CoT": 79.3,
    "full data: CoT and code": 79.9,
    "full data: CoT, code, execution": 80.5,
}
NOTES = (
    "The teacher is a scripted tutor that errs at seeded rates; policy, completer and verifiers are real, tiny models.",
    "A million parameters add and compare numbers less surely than Python does: what execution is worth to them is more "
    "than what it is worth to a large model.",
)


def main() -> int:
    options = experiments.arguments(__doc__, "runs/tables").parse_args()
    most = 32 if options.full else 4 if options.quick else 16
    try:
        outcomes, config = experiments.run(options, lambda config: judgings(config, most))
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    result, sections = tables(outcomes, config, most)
    result |= experiment_facts.circumstances(config, options)
    shown = ("size", "seeds", "problems", "held_out", "train_tokens", "machine", "date")
    facts = [("command", experiment_facts.command()), *experiment_facts.facts(result, shown)]
    page = Page("What each part of a verifier is worth", "benchmark", NOTES, sections, facts)
    target = options.page or options.run_dir / "ablation.html"
    write_atomic(Path(target), render_page(page).encode())
    print(json.dumps(result))
    return 0


def by_components(votes: int) -> dict[str, Judging]:
    """The rows of the first table."""
    return {
        "nothing": Judging(DIRECT, "direct", votes),
        "code, not executed": Judging(CODE, "code", votes),
        "code and execution": Judging(CODE, "code+execution", votes),
        "CoT": Judging(COT, "cot", votes),
        "full data: CoT": Judging(FULL, "cot", votes),
        "full data: CoT and code": Judging(FULL, "cot+code", votes),
        "full data: CoT, code, execution": Judging(FULL, "cot+code+execution", votes),
    }


def by_data(votes: int) -> dict[str, Judging]:
    """The rows of the table of data."""
    return {name: Judging(variant, "cot+code+execution", votes) for name, variant in PARTS.items()}


def by_votes(most: int) -> Judging:
    """The full verifier with all the votes that the second table divides."""
    return Judging(FULL, "cot+code+execution", most, every_step=True)


def judgings(config: QuickstartConfig, most: int) -> list[Judging]:
    votes = config.evaluation.votes
    wanted = [*by_components(votes).values(), *by_data(votes).values(), by_votes(most)]
    return list({judging.stage: judging for judging in wanted}.values())


def tables(
    outcomes: Sequence[Outcome], config: QuickstartConfig, most: int
) -> tuple[dict[str, Any], list[Section]]:
    """The object that is printed, and the page's sections."""
    votes = config.evaluation.votes
    result: dict[str, Any] = {}
    sections = [
        _bars_and_table(
            outcomes,
            by_components(votes),
            ("components", "Components and training data"),
            "Every row but the last three is a verifier that was trained on chats of its form alone.",
            PAPER,
        ),
        _votes(outcomes, most, result),
        _bars_and_table(
            outcomes,
            by_data(votes),
            ("data", "Data"),
            "Problems to make chats of, with tokens of training in proportion.",
            {},
        ),
    ]
    for key, rows in (("components", by_components(votes)), ("data", by_data(votes))):
        result[key] = {
            name: experiments.as_json(experiments.figures(outcomes, one)) for name, one in rows.items()
        }
    result["material"] = {
        name: {f"seed {one.seed}": one.materials[name].facts for one in outcomes}
        for name in outcomes[0].materials
    }
    return result, sections


def _bars_and_table(
    outcomes: Sequence[Outcome],
    rows: dict[str, Judging],
    title: tuple[str, str],
    lead: str,
    paper: dict[str, float],
) -> Section:
    found = {name: experiments.table_row(outcomes, judging) for name, judging in rows.items()}
    maj = f"Maj@{next(iter(rows.values())).votes}"
    columns = ["verifier", "Pass@1", maj, *(f"{maj}, seed {one.seed}" for one in outcomes)]
    says = (
        "The first two columns are means over the seeds, their intervals over the held-out solutions; how far training "
        "differs by chance is seen between the seeds."
    )
    if paper:
        columns.append("paper, Maj@8")
        says += " The paper's models and problems are others: only the order can be compared."
    cells: dict[str, list[Figure]] = {
        name: [*row, *([figure(paper.get(name), "not in the paper")] if paper else [])]
        for name, row in found.items()
    }
    series = [
        Series("Pass@1", [row[0] for row in found.values()], 2),
        Series(maj, [row[1] for row in found.values()], 1),
    ]
    chart = bars(f"F1 by {title[0]}, in percent", list(found), series)
    return Section(title[0], title[1], lead, [chart], [Table(title[1], columns, list(cells.items()), says)])


def _votes(outcomes: Sequence[Outcome], most: int, result: dict[str, Any]) -> Section:
    """F1 against the number of votes; puts the figures into `result` as well."""
    judging, counts = by_votes(most), [1]
    while counts[-1] < most:
        counts.append(2 * counts[-1])
    found = {count: experiments.of_fewer_votes(outcomes, judging, count) for count in counts}
    result["votes"] = experiments.as_json({f"maj@{count}": one for count, one in found.items()})
    names = ("f1", "error_accuracy", "correct_accuracy")
    shares = {name: [percent(getattr(one, name)) for one in found.values()] for name in names}
    chart = lines(
        "F1 against votes, in percent",
        [str(count) for count in counts],
        [Series("F1", shares["f1"], 1)],
        "votes",
    )
    table = Table(
        "Votes",
        ["votes", "F1", "erroneous", "correct"],
        [(str(count), [shares[name][at] for name in names]) for at, count in enumerate(counts)],
        "All paths judge all steps; a row is the mean over the groups that so many votes make of them.",
    )
    lead = "The full verifier, its votes counted in groups of this size."
    return Section("votes", "Votes", lead, [chart], [table])


if __name__ == "__main__":
    sys.exit(main())
