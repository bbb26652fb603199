"""Measures how real solutions are read: their answers, their verdicts, their steps. Prints one JSON object last.

    python benchmarks/real_solutions.py FILE [--set gsm8k] [--domain math] [--differences]

FILE has one JSON object per line with `solution` and `answer` (the reference), and optionally `is_correct` (a verdict
that somebody recorded) and `set`. `agreed_by_reading` compares that verdict with those of both ways to read an answer
that nobody announced (domains `math` and `math-last-number`), and of `bare_digits`: the last box, else the last run of
digits, in which a comma between thousands ends a number. That is how the solutions of StrictPRMBench were recorded.
`--differences` first prints every solution whose verdict here differs from the
recorded one, with its last 300 characters, so that each can be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from genprm.domains import Domain, Graded, load_domain
from genprm.domains.math import extract_answer
from genprm.evals.intervals import plain_share
from genprm.records import Problem

PAIRED = (("\\[", "\\]"), ("\\begin{", "\\end{"))
BARE_DIGITS = re.compile(r"-?\d+(?:\.\d+)?")
FENCES = ("```", "$$")
SHARE = {"value", "low", "high", "count", "total"}


async def measure(rows: list[dict[str, Any]], *, name: str, differences: bool) -> dict[str, Any]:
    by_reading = {}
    for reading in ("math", "math-last-number"):
        domain = load_domain(reading)
        by_reading[reading] = agreement(
            rows, await verdicts(domain, rows, [domain.extract(r["solution"]).answer for r in rows])
        )
        await domain.aclose()
    domain = load_domain(name)
    found = [domain.extract(row["solution"]) for row in rows]
    graded = await verdicts(domain, rows, [one.answer for one in found])
    by_reading["bare_digits"] = agreement(
        rows, await verdicts(domain, rows, [bare_digits(row["solution"]) for row in rows])
    )
    await domain.aclose()
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
    return {
        "domain": name,
        "solutions": len(rows),
        "answers": dict(Counter(one.how for one in found).most_common()),
        "right": sum(verdict.equal is True for verdict in graded),
        "unknown": sum(verdict.equal is None for verdict in graded),
        "agreed": agreement(rows, graded),
        "agreed_by_reading": by_reading,
        "recorded_wrong_found_right": sum(verdict.equal is True for _, _, verdict in other),
        "recorded_right_found_wrong": sum(verdict.equal is False for _, _, verdict in other),
        "one_step": plain_share(sum(len(one) == 1 for one in steps), len(rows)).model_dump(include=SHARE),
        "steps_mean": round(sum(map(len, steps)) / len(rows), 2),
        "cut": sum(is_cut(row["solution"], one) for row, one in zip(rows, steps, strict=True)),
    }


async def verdicts(domain: Domain, rows: list[dict[str, Any]], answers: list[str | None]) -> list[Graded]:
    problems = [
        Problem(id=str(index), text="?", answer=str(row["answer"])) for index, row in enumerate(rows)
    ]
    return await domain.grade_many(list(zip(answers, problems, strict=True)))


def agreement(rows: list[dict[str, Any]], graded: list[Graded]) -> dict[str, Any]:
    """How many of the recorded verdicts these are."""
    known = [
        (row, verdict)
        for row, verdict in zip(rows, graded, strict=True)
        if row.get("is_correct") is not None
    ]
    agreed = sum(verdict.equal is row["is_correct"] for row, verdict in known)
    return plain_share(agreed, len(known)).model_dump(include=SHARE)


def bare_digits(text: str) -> str | None:
    """The last box, else the last run of digits, at most with a decimal point."""
    if "\\boxed{" in text:
        return extract_answer(text)
    found = BARE_DIGITS.findall(text)
    return found[-1] if found else None


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
    parser.add_argument("--domain", default="math", choices=("math", "math-announced", "math-last-number"))
    parser.add_argument("--differences", action="store_true")
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"there is no file {options.file}")
    rows = [
        json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    rows = [row for row in rows if options.set is None or row.get("set") == options.set]
    print(json.dumps(asyncio.run(measure(rows, name=options.domain, differences=options.differences))))


if __name__ == "__main__":
    main()
