"""Monte-Carlo estimates and the step labels made of them (method, parts 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from genprm.records.base import NO_ERROR, Part, Record, Usage


class KeptCompletion(Part):
    """A completion that a Monte-Carlo estimate was made from.

    Attributes:
        text: the assistant's whole text, the given steps included.
        correct: whether its answer is right; None if that could not be graded.
    """

    text: str
    correct: bool | None = None


class StepScore(Part):
    """A Monte-Carlo estimate as counts: MC = correct / total (equation 8).

    Attributes:
        correct: completions whose answer equals q*.
        total: completions that were graded.
        failed: completions lost to engine faults or grading faults; in neither count above.
        origin: `sampled` from completions, `answer` for the last step (its own answer decides),
            `zero_rule` after a step with MC = 0 (not sampled, MC is 0), or `skipped` if the estimator did not
            need it (unknown).
        completions: the first ones of those counted, as many as `montecarlo.keep_completions` asks for.
    """

    correct: int = Field(ge=0)
    total: int = Field(ge=0)
    failed: int = Field(default=0, ge=0)
    origin: Literal["sampled", "answer", "zero_rule", "skipped"] = "sampled"
    completions: tuple[KeptCompletion, ...] = ()

    @property
    def value(self) -> float | None:
        """MC as a ratio in [0, 1], or None where nothing could be graded."""
        if self.origin == "zero_rule":
            return 0.0
        return self.correct / self.total if self.total else None


class SolutionScores(Record):
    """MC estimates of one solution.

    Attributes:
        start: MC(s_1), the completer's own Pass@1 on the problem (equation 9).
        steps: MC(s_t, a_t) for each of the T steps.
        estimator: how it was decided which states are sampled, and how often (`montecarlo.estimator`).
    """

    solution_id: str
    problem_id: str
    start: StepScore
    steps: tuple[StepScore, ...]
    estimator: Literal["fixed", "dynamic", "sequential", "binary"] = "dynamic"
    completer: str = ""
    usage: Usage = Usage()


class StepLabel(Part):
    """A step's label r_t (equation 11).

    Attributes:
        label: True for progress, False for none; None if that is not known.
        progress: the quantity that was compared with the threshold (P_t for `ratio` and `posterior`).
        below: for `posterior`, how likely the true P_t is below the threshold.
        reason: why `label` is None: `estimate_missing`, `undecided`, `left_to_teacher` (undecided, and the consensus
            filter takes the teacher's word), `after_first_error` (not sampled, since an earlier step is False) or
            `not_given` (labels from elsewhere).
    """

    label: bool | None
    progress: float | None = None
    below: float | None = None
    reason: str | None = None


class SolutionLabels(Record):
    """Labels of one solution by one method.

    Attributes:
        method: the rule, or `given` for labels from elsewhere.
        threshold: what the rule compares with; None if there is no rule.
    """

    solution_id: str
    problem_id: str
    method: Literal["hard", "difference", "ratio", "posterior", "given"]
    threshold: float | None
    labels: tuple[StepLabel, ...]

    @property
    def first_error(self) -> int | None:
        """Index of the first step labelled False, NO_ERROR, or None where an earlier label is unknown."""
        return _first_false(step.label for step in self.labels)


class LabelledSolution(Record):
    """A solution with a label for each step: what a discriminative process reward model is trained on.

    Attributes:
        problem: the problem's text.
        steps: the T paragraphs, at least one.
        labels: for each step True (right), False (wrong) or None (unknown; carries no loss).
        source: where the row was read, or the rule that made the labels.
    """

    id: str = Field(min_length=1)
    problem: str = Field(min_length=1)
    steps: tuple[str, ...] = Field(min_length=1)
    labels: tuple[bool | None, ...]
    problem_id: str = ""
    source: str = ""

    @model_validator(mode="after")
    def _one_label_per_step(self) -> LabelledSolution:
        if len(self.labels) != len(self.steps):
            raise ValueError(f"{len(self.steps)} steps, but {len(self.labels)} labels")
        return self

    @property
    def first_error(self) -> int | None:
        """Index of the first step labelled False, NO_ERROR, or None if an earlier label is unknown."""
        return _first_false(self.labels)


def _first_false(labels: Iterable[bool | None]) -> int | None:
    for index, label in enumerate(labels):
        if label is None:
            return None
        if not label:
            return index
    return NO_ERROR
