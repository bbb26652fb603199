"""Measures how real solutions are read: their answers, their verdicts, their steps. Prints one JSON object last.

    python benchmarks/real_solutions.py FILE [--set gsm8k] [--differences]

FILE has one JSON object per line with `solution` and `answer` (the reference), and optionally `is_correct` (a verdict
that somebody recorded) and `set`. `--differences` first prints every solution whose verdict here differs from the
recorded one, with its last 300 characters, so that each can be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from genprm.domains.math import MathDomain
from genprm.evals.intervals import plain_share
from genprm.records import Problem

PAIRED = (("\\[", "\\]"), ("\\begin{", "\\end{"))
FENCES = ("```", "$$")
SHARE = {"value", "low", "high", "count", "total"}


async def measure(rows: list[dict[str, Any]], *, differences: bool) -> dict[str, Any]:
    async with MathDomain() as domain:
        found = [domain.extract(row["solution"]) for row in rows]
        problems = [
            Problem(id=str(index), text="?", answer=str(row["answer"])) for index, row in enumerate(rows)
        ]
        graded = await domain.grade_many(
            [(one.answer, two) for one, two in zip(found, problems, strict=True)]
        )
        steps = [domain.split(row["solution"]) for row in rows]
    recorded = [
        (row, one, verdict)
        for row, one, verdict in zip(rows, found, graded, strict=True)
        if row.get("is_correct") is not None
    ]
    other = [entry for entry in recorded if entry[2].equal is not entry[0]["is_correct"]]
    if differences:
        for row, one, verdict in other:
            print(
                f"--- {row.get('id')}: {one.answer!r} by {one.how}, reference {row['answer']}: {verdict.equal}"
            )
            print(row["solution"][-300:])
    agreed = len(recorded) - len(other)
    return {
        "solutions": len(rows),
        "answers": dict(Counter(one.how for one in found).most_common()),
        "right": sum(verdict.equal is True for verdict in graded),
        "unknown": sum(verdict.equal is None for verdict in graded),
        "agreed": plain_share(agreed, len(recorded)).model_dump(include=SHARE),
        "recorded_wrong_found_right": sum(verdict.equal is True for _, _, verdict in other),
        "recorded_right_found_wrong": sum(verdict.equal is False for _, _, verdict in other),
        "one_step": plain_share(sum(len(one) == 1 for one in steps), len(rows)).model_dump(include=SHARE),
        "steps_mean": round(sum(map(len, steps)) / len(rows), 2),
        "cut": sum(is_cut(row["solution"], one) for row, one in zip(rows, steps, strict=True)),
    }


def is_cut(text: str, steps: tuple[str, ...]) -> bool:
    """Whether a boundary cut a display, an environment or a fence that was complete."""
    for left, right in PAIRED:
        if text.count(left) == text.count(right) and any(
            one.count(left) != one.count(right) for one in steps
        ):
            return True
    return any(text.count(mark) % 2 == 0 and any(one.count(mark) % 2 for one in steps) for mark in FENCES)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--set", help="rows of this set alone")
    parser.add_argument("--differences", action="store_true")
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"there is no file {options.file}")
    rows = [
        json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    rows = [row for row in rows if options.set is None or row.get("set") == options.set]
    print(json.dumps(asyncio.run(measure(rows, differences=options.differences))))


if __name__ == "__main__":
    main()
