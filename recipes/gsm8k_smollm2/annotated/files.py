"""The files that the scripts of this recipe hand to each other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from genprm.evals.processbench import ProcessBenchItem
from genprm.records import TrainingSample
from genprm.store import write_atomic

PROFILE = Path(__file__).resolve().parents[1] / "verifier.yaml"
"""The prompt profile of the trained verifiers."""


def write_items(path: Path, items: Sequence[ProcessBenchItem]) -> None:
    """Solutions with their first errors as a ProcessBench file."""
    rows = [
        {
            "id": one.id,
            "generator": one.generator,
            "problem": one.problem,
            "steps": one.steps,
            "label": one.label,
        }
        for one in items
    ]
    write_atomic(path, json.dumps(rows, indent=0).encode())


def read_chats(data: Path, limit: int | None = None) -> list[TrainingSample]:
    """The chats of a build, also of one that is not finished; the first ones if there is a limit."""
    parts = sorted((data / "chats").glob("*.jsonl"))
    lines = (line for path in parts for line in path.read_text("utf-8").splitlines()[1:])
    return [TrainingSample.model_validate_json(line) for line in itertools.islice(lines, limit)]
