"""What a label rule is worth to the verifier that is trained on it, in the built-in world; one JSON object last.

    python benchmarks/label_rules.py [--full | --quick] [--seeds 1,2,3] [--run-dir DIR] [--page FILE]
        [section.key=value ...]

For each seed the same solutions, Monte-Carlo counts (K = 16 for every state) and rationales are labelled by each rule;
the consensus with the teacher decides what is kept; a verifier is trained on that, with equally many tokens, and finds
the first errors of held-out solutions. The paper's table 4 compares the rules like this. Truth is known here, so the
labels are also compared with it. Writes a page beside the JSON; a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
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
from genprm.view.charts import Series, bars
from genprm.view.figures import Figure, figure, percent
from genprm.view.page import Page, render_page
from genprm.view.parts import Section, Table
from genprm.worlds.arithmetic.quickstart import QuickstartConfig

RULES = {
    "hard": LabelConfig(method="hard"),
    "difference -0.3": LabelConfig(method="difference", difference=-0.3),
    "difference -0.5": LabelConfig(method="difference", difference=-0.5),
    "ratio 0.5": LabelConfig(method="ratio", ratio=0.5),
    "ratio 0.8": LabelConfig(method="ratio", ratio=0.8),
    "ratio 1.0": LabelConfig(method="ratio", ratio=1.0),
    "posterior 0.8": LabelConfig(method="posterior", ratio=0.8),
}
VARIANTS = {name: Variant(name, label) for name, label in RULES.items()}
# Average F1 on ProcessBench, Pass@1 and Maj@8 (GenPRM, arXiv 2504.00891, the ablation of label rules).
PAPER = {
    "hard": (73.2, 78.5),
    "difference -0.3": (74.1, 80.2),
    "difference -0.5": (74.3, 79.1),
    "ratio 0.5": (73.5, 78.9),
    "ratio 0.8": (75.2, 80.5),
    "ratio 1.0": (72.3, 79.0),
}
NOTES = (
    "The teacher is a scripted tutor that errs at seeded rates; policy, completer and verifiers are real, tiny models.",
    "Labels are compared with plain correctness. Relative progress measures whether a step is right and beneficial, so "
    "even exact counts would not agree with it everywhere.",
    "No Monte-Carlo sees an error that the completer makes as well or repairs: a wrong noun costs no right answer.",
)


def main() -> int:
    options = experiments.arguments(__doc__, "runs/tables").parse_args()
    try:
        outcomes, config = experiments.run(options, judgings)
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    result = summary(outcomes, config, options)
    page = options.page or options.run_dir / "label_rules.html"
    write_atomic(Path(page), render_page(make_page(outcomes, result, config)).encode())
    print(json.dumps(result))
    return 0


def judgings(config: QuickstartConfig) -> list[Judging]:
    votes = config.evaluation.votes
    return [Judging(variant, "cot+code+execution", votes) for variant in VARIANTS.values()]


def summary(
    outcomes: Sequence[Outcome], config: QuickstartConfig, options: argparse.Namespace
) -> dict[str, Any]:
    """The object that is printed."""
    rules = {}
    for judging in judgings(config):
        name = judging.variant.name
        rules[name] = {
            "f1": experiments.as_json(experiments.figures(outcomes, judging)),
            "labels": {f"seed {one.seed}": one.materials[name].facts for one in outcomes},
        }
    return {"rules": rules} | experiment_facts.circumstances(config, options)


def make_page(outcomes: Sequence[Outcome], result: dict[str, Any], config: QuickstartConfig) -> Page:
    """The page: what each rule's verifier finds, and what the rule's labels are worth before that."""
    wanted = judgings(config)
    found = {judging.variant.name: experiments.table_row(outcomes, judging) for judging in wanted}
    seeds = [f"seed {one.seed}" for one in outcomes]
    maj = f"Maj@{config.evaluation.votes}"
    verifiers = Section(
        "verifiers",
        "The verifiers that they train",
        "F1 of the first error on held-out solutions, by verifiers that differ in their label rule alone.",
        [
            bars(
                "F1 by label rule, in percent",
                list(found),
                [
                    Series("Pass@1", [row[0] for row in found.values()], 2),
                    Series(maj, [row[1] for row in found.values()], 1),
                ],
            )
        ],
        [
            Table(
                "F1 by label rule",
                [
                    "rule",
                    "Pass@1",
                    maj,
                    *(f"{maj}, {seed}" for seed in seeds),
                    "paper, Pass@1",
                    "paper, Maj@8",
                ],
                [(name, [*row, *_paper(name)]) for name, row in found.items()],
                "The first two columns are means over the seeds, their intervals over the held-out solutions; how far "
                "training differs by chance is seen between the seeds. The paper's models and problems are others: "
                "only the order of the rules can be compared.",
            )
        ],
    )
    labels = Section(
        "labels",
        "The labels themselves",
        "Shares of solutions whose first error a rule names exactly, before the consensus and after it.",
        [],
        [_label_table(outcomes, name) for name in ("labels", "kept")],
    )
    return Page(
        "What a label rule is worth",
        "benchmark",
        NOTES,
        [verifiers, labels],
        _facts(result),
    )


def _paper(name: str) -> list[Figure]:
    pair = PAPER.get(name, (None, None))
    return [figure(value, "not in the paper") for value in pair]


def _label_table(outcomes: Sequence[Outcome], which: str) -> Table:
    rows = []
    for name in VARIANTS:
        cells: list[Figure] = []
        for one in outcomes:
            quality = getattr(one.materials[name], which)
            cells += [figure(quality.rows), percent(quality.accuracy)]
        rows.append((name, cells))
    columns = [head for one in outcomes for head in (f"solutions, seed {one.seed}", "first error right")]
    if which == "labels":
        says = "Every labelled solution, kept or not. What a rule misses the consensus drops where the teacher sees it."
        return Table("Before the consensus", ["rule", *columns], rows, says)
    says = "What verifiers are trained on: how much a rule leaves, and how right it is."
    return Table("After the consensus", ["rule", *columns], rows, says)


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    shown = ("size", "seeds", "problems", "held_out", "train_tokens", "machine", "date")
    return [("command", experiment_facts.command()), *experiment_facts.facts(result, shown)]


if __name__ == "__main__":
    sys.exit(main())
