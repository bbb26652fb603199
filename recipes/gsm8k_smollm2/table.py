"""Put the figures of a run into the README's table.

python recipes/gsm8k_smollm2/table.py OUT/result.json [--readme README.md]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results -->", "<!-- /results -->"
NAMES = {"genprm": "GenPRM", "direct": "direct"}
SETS = {"processbench-gsm8k": "ProcessBench gsm8k", "held-out corruptions": "held-out corruptions"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--readme", type=Path, default=Path(__file__).resolve().parent / "README.md")
    arguments = parser.parse_args()
    text = arguments.readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        print(f"{arguments.readme} has no place for the table: {BEGIN} and {END}", file=sys.stderr)
        return 1
    table = results(json.loads(arguments.result.read_text(encoding="utf-8")))
    arguments.readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    print(table)
    return 0


def results(result: Mapping[str, Any]) -> str:
    """The Markdown table, and under it what it rests on."""
    lines = [
        "| verifier | solutions | rule | F1 | erroneous found | correct accepted | judged |",
        "|---|---|---|---|---|---|---|",
        *_rows(result.get("figures", {})),
    ]
    return "\n".join([*lines, "", *_notes(result)])


def _rows(figures: Mapping[str, Any]) -> Iterator[str]:
    for model, of_model in figures.items():
        for name, shown in SETS.items():
            part = of_model.get(name)
            if part is None:
                continue
            judged = f"{part['covered']} of {part['of']}"
            if not part["covered"]:
                yield f"| {NAMES[model]} | {shown} | - | not measured: {part['reason']} | - | - | {judged} |"
                continue
            for rule, one in part["figures"].items():
                how = (
                    f"threshold {part['threshold']:g}, chosen on dev"
                    if rule.startswith("threshold")
                    else rule
                )
                shares = (_share(one[key]) for key in ("f1", "error_accuracy", "correct_accuracy"))
                yield f"| {NAMES[model]} | {shown} | {how} | {' | '.join(shares)} | {judged} |"


def _share(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return f"unknown: {share['reason']}"
    ends = "" if share["low"] is None else f" ({share['low']:.1f} to {share['high']:.1f})"
    return f"{share['value']:.1f}{ends}"


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    """Machine, time, training, and how often each kind of corruption was found."""
    yield f"Measured on {result['device']} in {result['seconds']:.0f} s, everything included; 95 % intervals."
    for model, shown in NAMES.items():
        report = result.get(f"train-{model}", {}).get("report")
        if report is not None:
            yield (
                f"{shown}: {report['steps']} steps on {report['samples']} chats, {report['tokens'] / 1e6:.1f}M tokens "
                f"in {report['seconds']:.0f} s (ended by its {report['ended_by']})."
            )
    for model, shown in NAMES.items():
        kinds = (
            result.get("figures", {})
            .get(model, {})
            .get("held-out corruptions", {})
            .get("found by kind", {})
        )
        if kinds:
            found = ", ".join(f"{kind} {one['count']} of {one['total']}" for kind, one in kinds.items())
            yield f"{shown}, held-out solutions judged exactly, by kind: {found}."


if __name__ == "__main__":
    sys.exit(main())
