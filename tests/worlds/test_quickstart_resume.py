"""The whole quickstart, small, through the real command: killed at random moments it ends with the same report."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SMALL = [
    "problems.limit=12",
    "montecarlo.k_start=4",
    "montecarlo.k_hard=4",
    "montecarlo.k_medium=4",
    "montecarlo.k_easy=4",
    "train.max_tokens=12000",
    "store.shard_size=4",
    "evaluation.votes=2",
    "evaluation.localisation_solutions=6",
    "evaluation.best_of_n_problems=1",
    "evaluation.refinement_problems=3",
    "evaluation.refinement_votes=1",
    "evaluation.best_of_n_votes=1",
]
TIMES = {"seconds", "cost"}


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from genprm.cli.main import main; main()", "quickstart", *SMALL]
    return subprocess.Popen(
        [*command, "-o", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(folder: Path) -> dict[str, Any]:
    process = start(folder)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors.decode()[-2000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in report.items() if key not in TIMES}
    return {**kept, "tokens": report["cost"]["tokens"]}


def row_ids(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stage in sorted((folder / "stages").iterdir()):
        summary = json.loads((stage / "stage.json").read_text())
        lines = [
            line
            for key in summary["shards"]
            for line in (stage / f"{key}.rows.jsonl").read_text().splitlines()
        ]
        found[stage.name] = lines
    return found


def test_a_killed_quickstart_ends_with_the_same_report(tmp_path: Path) -> None:
    began = time.monotonic()
    whole = finish(tmp_path / "whole")
    length = time.monotonic() - began
    rng = random.Random(5)
    folder = tmp_path / "killed"
    killed = 0
    for _ in range(5):
        process = start(folder)
        try:
            process.wait(timeout=rng.uniform(0.15, 0.6) * length)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed >= 2
    assert without_times(finish(folder)) == without_times(whole)
    for name, lines in row_ids(folder).items():
        assert len(lines) == len(set(lines)), f"duplicate rows in {name}"
    assert (folder / "report.html").stat().st_size > 10_000


def test_the_finished_quickstart_recomputes_nothing(tmp_path: Path) -> None:
    first = finish(tmp_path / "run")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "stages").rglob("*.rows.*")}
    assert finish(tmp_path / "run") == first
    assert {
        path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "stages").rglob("*.rows.*")
    } == written
