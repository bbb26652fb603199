"""A run's labels are read as a stream: every label meets its own solution, and another rule's are counted in passing."""

from __future__ import annotations

from pathlib import Path

import pytest
import sums
from typer.testing import CliRunner

from genprm import LabelConfig, RunConfig, label, load_config
from genprm.api.labelled import run_labelled
from genprm.cli.main import app
from genprm.config import QuickstartConfig
from genprm.errors import StoreError
from genprm.records import Problem, Solution, SolutionLabels, StepLabel
from genprm.runs import run_pipeline
from genprm.store import RunReader, RunStore, ShardRows, StageSummary

LABELLED = {"a": (0, 1), "b": (), "c": (1,), "d": (2, 0)}
"""By problem, the solutions of its three that have labels, in the order of the labels."""


def write(folder: Path, *, complete: bool) -> None:
    """Shards of two problems; the problem b has no labels, and x has no solution either."""
    problems = [Problem(id=name, text=f"text of {name}") for name in (*LABELLED, "x")]
    with RunStore(folder, config="") as store:
        for stage, row_type in (("problems", Problem), ("solutions", Solution), ("labels", SolutionLabels)):
            shards = store.stage(stage, row_type)
            for number in range(3):
                batch = problems[2 * number : 2 * number + 2]
                made = [row for problem in batch for row in rows(stage, problem)]
                shards.write(
                    number, f"k{number}", ShardRows(made), recipe="r", problems=len(batch), seconds=0.0
                )
            shards.write_summary(
                StageSummary(
                    stage=stage, row_type=row_type.__name__, recipe="r", shards=3,
                    complete=complete or stage != "labels",
                )
            )  # fmt: skip


def rows(stage: str, problem: Problem) -> list[Problem | Solution | SolutionLabels]:
    if stage == "problems":
        return [problem]
    numbers = (0, 1, 2) if stage == "solutions" and problem.id != "x" else LABELLED.get(problem.id, ())
    if stage == "solutions":
        return [
            Solution(id=f"{problem.id}/{n}", problem_id=problem.id, steps=(f"step of {problem.id}/{n}",))
            for n in numbers
        ]
    return [
        SolutionLabels(
            solution_id=f"{problem.id}/{n}", problem_id=problem.id, method="ratio", threshold=0.8,
            labels=(StepLabel(label=n == 1),),
        )
        for n in numbers
    ]  # fmt: skip


def test_every_label_meets_its_solution(tmp_path: Path) -> None:
    write(tmp_path / "run", complete=True)
    found = [(row.id, row.problem, row.steps, row.labels) for row in run_labelled(tmp_path / "run")]
    assert found == [
        (f"{name}/{n}", f"text of {name}", (f"step of {name}/{n}",), (n == 1,))
        for name, numbers in LABELLED.items()
        for n in sorted(numbers)
    ]


def test_labels_that_are_not_complete_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "run", complete=False)
    with pytest.raises(StoreError, match="'labels' is not complete"):
        list(run_labelled(tmp_path / "run"))


async def test_new_labels_are_counted_and_written_as_they_pass(tmp_path: Path) -> None:
    sums.register()
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 4), tmp_path / "run"
    config = load_config(None, model=RunConfig, base=sums.config(problems))
    await run_pipeline(config, folder, until="labels")
    out, scores = tmp_path / "labels.jsonl", list(RunReader(folder).rows("montecarlo"))
    done = CliRunner().invoke(app, ["label", str(folder), "--rule", "hard", "-o", str(out)])
    assert done.exit_code == 0
    found = [SolutionLabels.model_validate_json(line) for line in out.read_text().splitlines()]
    expected = label(scores, LabelConfig(method="hard"))
    assert found == expected and {row.method for row in found} == {"hard"}
    own = label(scores)
    changed = sum(
        new.label is not old.label
        for row, other in zip(expected, own, strict=True)
        for new, old in zip(row.labels, other.labels, strict=True)
    )
    assert f"{len(found)} solutions" in done.stdout
    assert f"{changed} step label" in done.stdout


async def test_labels_of_a_quickstarts_run_are_recomputed(tmp_path: Path) -> None:
    """Its config has a section more than other runs'."""
    sums.register()
    problems, folder = sums.write_problems(tmp_path / "problems.jsonl", 2), tmp_path / "run"
    base = {**sums.config(problems), "label": {"method": "hard"}}
    await run_pipeline(load_config(None, model=QuickstartConfig, base=base), folder, until="labels")
    assert "evaluation:" in (folder / "config.yaml").read_text()
    done = CliRunner().invoke(app, ["label", str(folder)])
    assert done.exit_code == 0, done.exception
    assert "0 step labels and 0 first errors change" in done.stdout, "its own rule is the default"
