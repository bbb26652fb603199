"""Fail unless a quickstart report holds every fixed key with a value of the right type."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COMPONENTS = ("direct", "cot", "cot+code", "cot+code+execution")
NUMBER = (int, float)


def main(path: str, solutions: str = "400") -> int:
    report = json.loads(Path(path).read_text())
    wanted: list[tuple[str, Any]] = [
        ("labels.rows", int),
        ("seconds", NUMBER),
        ("seed", int),
        ("versions", dict),
    ]
    wanted += [(f"labels.accuracy.{method}", NUMBER) for method in ("hard", "difference", "ratio")]
    wanted += [(f"consensus.{key}", int) for key in ("kept", "dropped")]
    wanted += [(f"consensus.{key}", NUMBER) for key in ("accuracy_before", "accuracy_after")]
    wanted += [("localisation.solutions", int), ("best_of_n.problems", int), ("refinement.problems", int)]
    wanted += [
        (f"localisation.{mode}.{votes}.{figure}", NUMBER)
        for mode in COMPONENTS
        for votes in ("pass@1", "maj@8")
        for figure in ("error_accuracy", "correct_accuracy", "f1", "unparsed")
    ]
    wanted += [
        (f"best_of_n.{n}.{rule}", NUMBER)
        for n in (1, 2, 4, 8, 16)
        for rule in ("pass@1", "majority", "last", "mean", "min", "pass@n")
    ]
    wanted += [(f"refinement.{kind}", list) for kind in ("critic", "self")]
    wanted += [(f"cost.{figure}", dict) for figure in ("tokens", "engine_seconds", "code_seconds")]
    problems = [line for key, kind in wanted if (line := check(report, key, kind))]
    if report.get("localisation", {}).get("solutions", 0) < int(solutions):
        problems.append("localisation.solutions is below the number asked for")
    for kind in ("critic", "self"):
        if len(report.get("refinement", {}).get(kind, [])) != 4:
            problems.append(f"refinement.{kind} does not hold four turns")
    print("\n".join(problems) or f"{path}: all {len(wanted)} keys are there")
    return 1 if problems else 0


def check(report: dict[str, Any], key: str, kind: Any) -> str | None:
    value: Any = report
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return f"missing: {key}"
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, kind):
        return f"wrong type: {key} is {value!r}"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
