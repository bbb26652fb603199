"""F1 of a verifier against its size, its training tokens and its votes, in the built-in world; one JSON object last.

    python benchmarks/scaling.py [--base MODEL]... [--tokens N,N] [--full | --quick] [--seeds 1,2,3] [--run-dir DIR]
        [--page FILE] [section.key=value ...]

Every base is trained on the same chats with each number of tokens, and its votes are counted in groups. Bases of other
sizes than the packaged one are made with `recipes/tiny_models/make.py OUT --only base --width W`, about 1M, 3M and 10M
parameters for W = 128, 232 and 432; give all of them equally many tokens, which takes a night on a CPU for the largest.
Labels are the posterior rule's. Writes a page beside the JSON; a stopped run goes on where it was.
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
from genprm.engines import resolve_model
from genprm.records import LocalisationFigures
from genprm.store import write_atomic
from genprm.view.charts import Series, lines
from genprm.view.figures import percent
from genprm.view.page import Page, render_page
from genprm.view.parts import Section, Table

LABEL = LabelConfig(method="posterior")
TOKENS = (50_000, 150_000, 450_000, 1_350_000)
NOTES = (
    "The teacher is a scripted tutor that errs at seeded rates; policy, completer and verifiers are real, tiny models.",
    "More tokens are more passes over the same chats, not more chats.",
)


def main() -> int:
    parser = experiments.arguments(__doc__, "runs/tables")
    parser.add_argument(
        "--base", action="append", help="a folder, or builtin:base; may be given several times"
    )
    parser.add_argument("--tokens", type=experiments.numbers, help=",".join(map(str, TOKENS)))
    options = parser.parse_args()
    tokens = options.tokens or ([2_000, 4_000] if options.quick else list(TOKENS))
    bases = options.base or ["builtin:base"]
    most = 32 if options.full else 2 if options.quick else 8
    try:
        grid = {(base, count): _judging(base, count, most) for base in bases for count in tokens}
        sizes = {base: _parameters(base) for base in bases}
        outcomes, config = experiments.run(options, lambda _: list(grid.values()))
    except genprm.GenPRMError as error:
        show_error(error)
        return 1
    found = {place: _by_votes(outcomes, judging) for place, judging in grid.items()}
    result: dict[str, Any] = {
        "figures": [
            {"base": base, "parameters": sizes[base], "tokens": count, "f1": experiments.as_json(by_votes)}
            for (base, count), by_votes in found.items()
        ]
    } | experiment_facts.circumstances(config, options)
    sections = [_section(sizes[base], base, tokens, found) for base in bases]
    shown = ("size", "seeds", "problems", "held_out", "machine", "date")
    facts = [("command", experiment_facts.command()), *experiment_facts.facts(result, shown)]
    page = Page("How a verifier grows", "benchmark", NOTES, sections, facts)
    write_atomic(options.page or options.run_dir / "scaling.html", render_page(page).encode())
    print(json.dumps(result))
    return 0


def _judging(base: str, tokens: int, votes: int) -> Judging:
    name = f"{Path(base).name.replace(':', '-')}-{tokens}"
    return Judging(
        Variant(name, LABEL, model=base, tokens=tokens), "cot+code+execution", votes, every_step=True
    )


def _parameters(base: str) -> int:
    """How many parameters a base has.

    Raises:
        TrainingError: it cannot be read.
    """
    from genprm.training.models import load_tokenizer

    folder = resolve_model(base)
    load_tokenizer(folder)  # says what is wrong with a folder that holds no model
    from transformers import AutoModelForCausalLM

    return int(AutoModelForCausalLM.from_pretrained(folder).num_parameters())


def _by_votes(outcomes: Sequence[Outcome], judging: Judging) -> dict[str, LocalisationFigures]:
    counts = [1]
    while counts[-1] < judging.votes:
        counts.append(2 * counts[-1])
    return {f"maj@{count}": experiments.of_fewer_votes(outcomes, judging, count) for count in counts}


def _section(
    parameters: int,
    base: str,
    tokens: Sequence[int],
    found: dict[tuple[str, int], dict[str, LocalisationFigures]],
) -> Section:
    """One base: F1 against tokens, a line for each number of votes."""
    rules = list(found[base, tokens[0]])
    f1 = {rule: [percent(found[base, count][rule].f1) for count in tokens] for rule in rules}
    series = [
        Series(rule.capitalize(), values, 1 + number % 7)
        for number, (rule, values) in enumerate(f1.items())
    ]
    chart = lines(
        "F1 against training tokens", [f"{count:,}" for count in tokens], series, "training tokens"
    )
    table = Table(
        "F1 by training tokens and votes",
        ["votes", *(f"{count:,} tokens" for count in tokens)],
        [(rule.capitalize(), values) for rule, values in f1.items()],
        "Means over the seeds with intervals over the held-out solutions; a row is the mean over the groups that so many "
        "votes make of all paths.",
    )
    title = f"{parameters / 1e6:.1f}M parameters"
    return Section(f"p{parameters}", title, f"Trained from {base}.", [chart], [table])


if __name__ == "__main__":
    sys.exit(main())
