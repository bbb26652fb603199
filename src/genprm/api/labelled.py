"""Step labels and chats, from runs and from elsewhere; discriminative process reward models trained on labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from genprm.api.given import checked_rows, given_rows
from genprm.api.models import given_section
from genprm.config import PrmConfig, load_config
from genprm.records import LabelledSolution, Solution, SolutionLabels, TrainingSample
from genprm.sources.chats import iterate_chats
from genprm.sources.labelled import iterate_labelled
from genprm.sources.writing import Written, write_layout
from genprm.store import RunReader
from genprm.training.prm import PrmProgress, PrmReport, train_discriminative
from genprm.view.model_card import keep_model_card

RowT = TypeVar("RowT", Solution, SolutionLabels)
_WRITABLE: tuple[type[LabelledSolution | TrainingSample], ...] = (LabelledSolution, TrainingSample)


def load_labelled(
    source: str | Path, split: str = "train", *, layout: str = "auto"
) -> list[LabelledSolution]:
    """Solutions with step labels: those of a run, or of a file in a known layout.

    Args:
        source: a run directory whose stage `labels` is complete; a file (JSONL, JSON, Parquet), `hub:ID`, or `-`. Rows of
            a file that repeat an earlier one are left out.
        split: of a hub data set.
        layout: `genprm`, `stepwise`, `prm800k`, `math-shepherd` or `processbench`; found out unless given. See
            `genprm.sources.labelled`.

    Raises:
        ConfigError, DataError, StoreError: an unknown layout, a source that cannot be read, or no usable row in it. A
            single unusable row is left out; `genprm import` counts them.
    """
    if Path(source).is_dir():
        return list(run_labelled(source))
    return list(iterate_labelled(source, split, layout=layout))


def load_chats(source: str | Path, split: str = "train") -> list[TrainingSample]:
    """Training chats: those of a run, or of a file with `conversations` or `messages`, as GenPRM-MATH-Data has them.

    Args:
        source, split: as for `load_labelled`; of a run the stage `chats`.

    Raises:
        DataError, StoreError: as for `load_labelled`.
    """
    if Path(source).is_dir():
        return list(RunReader(source).rows("chats"))
    return list(iterate_chats(source, split))


def write_rows(
    rows: Iterable[LabelledSolution | TrainingSample], path: str | Path, *, layout: str = "genprm"
) -> Written:
    """Write labelled solutions or chats as JSON lines or Parquet.

    Args:
        path: `.jsonl` or `.parquet`.
        layout: `genprm` (the record itself), `stepwise` (labelled solutions), `conversations` or `messages` (chats).

    Raises:
        ConfigError: an unknown layout, or one that these rows do not have.
        DataError: nothing to write, something else than such rows, or the file cannot be written.
    """
    given = checked_rows(rows, _WRITABLE, "load_labelled")
    return write_layout(given, path, layout)


def run_labelled(folder: str | Path) -> Iterator[LabelledSolution]:
    """The labelled solutions of a run, in its order; a problem and its rows in memory at a time.

    Raises:
        StoreError: no run, or one whose labels are not complete.
    """
    reader = RunReader(folder)
    labels: _ByProblem[SolutionLabels] = _ByProblem(reader.rows("labels"))
    solutions: _ByProblem[Solution] = _ByProblem(reader.rows("solutions"))
    for problem in reader.rows("problems"):
        known = {row.solution_id: row for row in labels.of(problem.id)}
        for solution in solutions.of(problem.id):
            found = known.get(solution.id)
            if found is None:
                continue
            threshold = "" if found.threshold is None else f", threshold {found.threshold:g}"
            yield LabelledSolution(
                id=solution.id,
                problem=problem.text,
                steps=solution.steps,
                labels=tuple(step.label for step in found.labels),
                problem_id=problem.id,
                source=f"{found.method} labels{threshold}",
            )


class _ByProblem(Generic[RowT]):
    """The rows of a stage, one problem's after the other: all stages keep the run's order of problems."""

    def __init__(self, rows: Iterator[RowT]) -> None:
        self._rows: Iterator[RowT] = rows
        self._next: RowT | None = next(rows, None)

    def of(self, problem_id: str) -> Iterator[RowT]:
        """The rows of the next problem, if it is this one."""
        while self._next is not None and self._next.problem_id == problem_id:
            yield self._next
            self._next = next(self._rows, None)


def train_prm(
    rows: Iterable[LabelledSolution],
    folder: str | Path,
    options: PrmConfig | None = None,
    *,
    seed: int = 0,
    progress: Callable[[PrmProgress], None] | None = None,
    on_repair: Callable[[str], None] | None = None,
    **changes: Any,
) -> PrmReport:
    """Train a discriminative process reward model: two classes, wrong and right, at each step's last token.

    The folder then is a model for `genprm.verify`, `best_of_n` and `evaluate`, for transformers'
    `AutoModelForTokenClassification`, and for vLLM's `token_classify` pooling. Called again with the same arguments it
    returns the finished model's report, or resumes a job that was killed. A model that was damaged is trained again.

    Args:
        rows: for example `genprm.load_labelled("runs/first")`.
        folder: gets model, tokenizer, model card and report.
        options: everything about the training; `changes` are keys of it, such as `model="..."`.
        seed: of shuffling and initialisation.
        progress: called after every optimizer step.
        on_repair: called if the model is damaged, with one sentence about it.

    Raises:
        MissingExtraError: the extra `train` is not installed.
        ConfigError: a wrong option or seed.
        DataError: what is given are no labelled solutions.
        TrainingError: no usable model or one that is not causal, labels of one class alone, a control token of the model
            in a solution, a folder that holds something else, or a loss that is not finite.
    """
    asked = given_section(options, PrmConfig, "the options of training")
    base = (asked or PrmConfig()).model_dump(mode="json")
    chosen = load_config(None, model=PrmConfig, base={**base, **changes})
    report = train_discriminative(
        given_rows(rows, LabelledSolution, "load_labelled"),
        chosen,
        folder,
        seed=seed,
        on_progress=progress,
        on_repair=on_repair,
    )
    keep_model_card(folder)
    return report
