"""The whole quickstart, small, through the real command: killed at random moments it ends with the same report."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from genprm.identity import costs_of
from genprm.records import Report
from genprm.store import RunReader

pytestmark = pytest.mark.slow

SMALL = [
    "problems.limit=10",
    "solutions.max_samples=8",
    "solutions.per_class=1",
    "montecarlo.k_start=4",
    "montecarlo.k_hard=4",
    "montecarlo.k_medium=4",
    "montecarlo.k_easy=4",
    "train.max_tokens=6000",
    "verify.max_tokens=80",
    "refine.turns=1",
    "store.shard_size=3",
    "evaluation.votes=2",
    "evaluation.localisation_solutions=4",
    "evaluation.best_of_n_problems=1",
    "evaluation.refinement_problems=2",
    "evaluation.refinement_votes=1",
    "evaluation.best_of_n_votes=1",
]


def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "genprm", "quickstart", *SMALL, *more]
    return subprocess.Popen(
        [*command, "-o", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(folder: Path, *more: str) -> dict[str, Any]:
    process = start(folder, *more)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors.decode()[-2000:]
    Report.model_validate_json((folder / "report.json").read_text())
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """The report without times, and without the config, in which the run's own overrides stand."""
    kept = {key: value for key, value in report.items() if key not in ("seconds", "cost", "provenance")}
    for section in (report["training"] or {}).values():
        section.pop("seconds", None)
    return {**kept, "tokens": report["cost"]["tokens"]}


def rows_of(folder: Path) -> dict[str, list[str]]:
    """What every row says, by stage, costs left out."""
    reader = RunReader(folder)
    return {
        summary.stage: [
            row.model_dump_json(exclude=costs_of(type(row))) for row in reader.rows(summary.stage)
        ]
        for summary in reader.stages()
    }


@dataclass(frozen=True)
class Whole:
    """A run that nobody disturbed, with two replicas."""

    folder: Path
    report: dict[str, Any]
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole") / "run"
    began = time.monotonic()
    report = finish(folder, "roles.policy.options.replicas=2")
    return Whole(folder, report, time.monotonic() - began)


def test_a_killed_quickstart_ends_with_the_same_report(whole: Whole, tmp_path: Path) -> None:
    """Nor does it matter that it has four replicas, and the other two."""
    rng = random.Random(5)
    folder, four = tmp_path / "killed", "roles.policy.options.replicas=4"
    killed = 0
    for _ in range(10):
        process = start(folder, four)
        try:
            process.wait(timeout=rng.uniform(0.1, 0.35) * whole.seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
    assert killed >= 2  # on a machine that got faster meanwhile the run ends sooner
    assert figures(finish(folder, four)) == figures(whole.report)
    for name, lines in rows_of(folder).items():
        assert len(lines) == len(set(lines)), f"duplicate rows in {name}"
    assert rows_of(folder) == rows_of(whole.folder)
    assert (folder / "report.html").stat().st_size > 10_000


def test_one_repaired_shard_is_computed_alone(whole: Whole) -> None:
    folder, same = whole.folder, "roles.policy.options.replicas=2"
    files = {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*-*.json")}
    lost = sorted((folder / "stages" / "montecarlo").glob("*.rows.jsonl"))[1]
    lost.unlink()
    assert figures(finish(folder, same)) == figures(whole.report)
    changed = {path for path, when in files.items() if path.stat().st_mtime_ns != when}
    assert {path.name.split(".")[0] for path in changed} == {lost.name.split(".")[0]}
    assert {path.parent.name for path in changed} == {"montecarlo"}
    assert "rows are missing" in (folder / "repairs.jsonl").read_text()


def test_one_replica_ends_with_the_same_report(whole: Whole, tmp_path: Path) -> None:
    other = finish(tmp_path / "run", "roles.policy.options.replicas=1")
    assert figures(other) == figures(whole.report)
    assert rows_of(tmp_path / "run") == rows_of(whole.folder)


def test_the_finished_quickstart_computes_nothing_again(whole: Whole) -> None:
    stages = whole.folder / "stages"
    written = {path: path.stat().st_mtime_ns for path in stages.rglob("*.rows.*")}
    again = finish(whole.folder, "roles.policy.options.replicas=2")
    assert figures(again) == figures(whole.report)
    assert {path: path.stat().st_mtime_ns for path in stages.rglob("*.rows.*")} == written
