"""The typed report of a run: what `report.json` holds and the page renders.

Every share is a `Share`: a value in percent with its 95 % interval, or unknown with the reason. Sections are
optional: a report has those that its run measured. The JSON keys are the field names; sections whose keys are
data (`localisation.<mode>.<votes>`, `best_of_n.<N>.<rule>`) keep these keys flat, beside their own fields.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from genprm.records.base import Part, Record

LabelMethod = Literal["hard", "difference", "ratio", "posterior"]
Mode = Literal["direct", "cot", "code", "code+execution", "cot+code", "cot+code+execution"]
SelectionRule = Literal["pass@1", "majority", "weighted", "last", "mean", "min", "pass@n"]

_VOTES = re.compile(r"pass@1|(maj|first_error)@[1-9]\d*")
_SLACK = 1e-9  # rounding of a value that lies on an end of its interval


class Share(Part):
    """A share in percent with its 95 % interval.

    Attributes:
        value: the share in [0, 100]; None when it is unknown.
        low, high: the ends of the interval; None when it is unknown, whether or not the value is known.
        count: the independent items that count towards the share, when it is a plain share of them; None for a
            mean, an expectation or an F1.
        total: the independent items behind the share.
        method: `wilson` for a plain share, `bootstrap` for anything else; None without an interval.
        reason: why the value or its interval is unknown; None when both are known.
    """

    value: float | None = Field(ge=0, le=100)
    low: float | None = Field(default=None, ge=0, le=100)
    high: float | None = Field(default=None, ge=0, le=100)
    count: int | None = Field(default=None, ge=0)
    total: int | None = Field(default=None, ge=0)
    method: Literal["wilson", "bootstrap"] | None = None
    reason: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Share:
        ends = (self.low, self.high, self.method)
        if any(end is None for end in ends) != all(end is None for end in ends):
            raise ValueError("low, high and method are given together or not at all")
        if (self.low is None) != (self.reason is not None):
            raise ValueError("a share has an interval, or a reason for having none")
        if self.low is None or self.high is None:
            return self
        if self.value is None or not self.low - _SLACK <= self.value <= self.high + _SLACK:
            raise ValueError("the interval must contain the value")
        return self

    @classmethod
    def unknown(cls, reason: str, total: int | None = None) -> Share:
        """A share that could not be measured."""
        return cls(value=None, total=total, reason=reason)


class LabelsSection(Part):
    """Labels made of Monte-Carlo estimates against the truth.

    Attributes:
        rows: labelled solutions. Intervals rest on their problems, the independent items.
        accuracy: share of solutions whose first error the labels name exactly.
        step_accuracy: share of right labels among the steps up to the earlier of the two first errors.
        unknown: share of solutions whose labels name no first error; these count as wrong in `accuracy`.
        unseen: kind of error -> share of first wrong steps of the kind after which completions still end right, so
            that Monte-Carlo sees nothing, or less than there is.
    """

    rows: int = Field(ge=0)
    accuracy: dict[LabelMethod, Share]
    step_accuracy: dict[LabelMethod, Share]
    unknown: dict[LabelMethod, Share]
    unseen: dict[str, Share] = Field(default_factory=dict)


class ConsensusSection(Part):
    """What the consensus kept, and how right its labels are.

    Attributes:
        kept, dropped: solutions.
        reasons: reason -> dropped solutions.
        accuracy_before, accuracy_after: label accuracy of all solutions, and of the kept ones.
        step_accuracy_before, step_accuracy_after: the same for steps.
    """

    kept: int = Field(ge=0)
    dropped: int = Field(ge=0)
    reasons: dict[str, int]
    accuracy_before: Share
    accuracy_after: Share
    step_accuracy_before: Share
    step_accuracy_after: Share


class TrainingSection(Part):
    """One training job.

    Attributes:
        samples: samples trained on; `dropped_too_long` more were left out.
        tokens: input tokens seen, without padding.
        loss_first, loss_last: loss of the first step, and the mean of the last ten, in nats per trained token.
        ended_by: `plan` when all planned steps were done, `seconds` when the time budget ended it.
    """

    samples: int
    dropped_too_long: int
    steps: int
    tokens: int
    loss_first: float
    loss_last: float
    ended_by: str
    seconds: float


class LocalisationFigures(Part):
    """How well first errors were found (ProcessBench's metrics).

    Attributes:
        error_accuracy: share of erroneous solutions whose first error was named exactly.
        correct_accuracy: share of correct solutions found to have no error.
        f1: harmonic mean of the two; 0 when both are 0.
        unparsed: share of all solutions without a readable prediction; these count as wrong above.
        failed: share of all solutions that an engine or a sandbox kept from being judged; these are counted
            here and nowhere else.
        erroneous, correct: solutions of each kind, failed ones included.
    """

    error_accuracy: Share
    correct_accuracy: Share
    f1: Share
    unparsed: Share
    failed: Share
    erroneous: int = Field(ge=0)
    correct: int = Field(ge=0)


class LocalisationSection(Part):
    """Finding the first wrong step, by mode and votes.

    The keys beside the two fields are modes; each holds votes -> figures, with the votes `pass@1` (the mean of
    every path alone), `maj@N` (the mean reward of N paths) or `first_error@N` (the most frequent of N predictions).
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, LocalisationFigures]]

    solutions: int = Field(ge=0)
    erroneous: int = Field(ge=0)

    @model_validator(mode="after")
    def _keys(self) -> LocalisationSection:
        for mode, figures in self.modes.items():
            if mode not in get_args(Mode):
                raise ValueError(f"'{mode}' is not one of the modes {', '.join(get_args(Mode))}")
            _check_votes(figures)
        return self

    @classmethod
    def of(
        cls, solutions: int, erroneous: int, modes: dict[Mode, dict[str, LocalisationFigures]]
    ) -> LocalisationSection:
        """The section of these modes."""
        return cls.model_validate({"solutions": solutions, "erroneous": erroneous, **modes})

    @property
    def modes(self) -> dict[str, dict[str, LocalisationFigures]]:
        """Mode -> votes -> figures."""
        return self.__pydantic_extra__


class BestOfNSection(Part):
    """Accuracy when one of N sampled solutions is chosen.

    The keys beside the fields are the sizes N; each holds rule -> share of problems answered right.

    Attributes:
        problems: problems given.
        evaluated: N -> problems with at least N graded candidates, over which the shares are taken.
        ungraded: candidates left out because it is unknown whether they are right.
        unscored: graded candidates without a score.
        answers: how the candidates' answers were found -> so many candidates (`Extracted.how`).
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[SelectionRule, Share]]

    problems: int = Field(ge=0)
    evaluated: dict[int, int]
    ungraded: int = Field(ge=0)
    unscored: int = Field(ge=0)
    answers: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _keys(self) -> BestOfNSection:
        for key in self.__pydantic_extra__:
            if not (key.isascii() and key.isdecimal() and not key.startswith("0")):
                raise ValueError(f"'{key}' is not a number of samples")
        if set(self.sizes) != set(self.evaluated):
            raise ValueError("`evaluated` and the shares have different sizes")
        return self

    @classmethod
    def of(
        cls,
        problems: int,
        sizes: dict[int, dict[SelectionRule, Share]],
        evaluated: dict[int, int],
        *,
        ungraded: int,
        unscored: int,
    ) -> BestOfNSection:
        """The section of these sizes."""
        counts = {
            "problems": problems,
            "evaluated": evaluated,
            "ungraded": ungraded,
            "unscored": unscored,
        }
        return cls.model_validate({**counts, **{str(size): row for size, row in sizes.items()}})

    @property
    def sizes(self) -> dict[int, dict[SelectionRule, Share]]:
        """N -> rule -> share, by ascending N."""
        return {int(key): self.__pydantic_extra__[key] for key in sorted(self.__pydantic_extra__, key=int)}


class RefinementSection(Part):
    """Accuracy of the answer that stands after each turn.

    Attributes:
        problems: problems whose first solution was refined.
        critic, self: share of right answers from turn 0 (the first solution) on, with the verifier as critic and by
            the policy alone.
        critic_changed, self_changed: solutions rewritten in each turn, from turn 1 on.
    """

    problems: int = Field(ge=0)
    critic: tuple[Share, ...]
    self: tuple[Share, ...]
    critic_changed: tuple[int, ...]
    self_changed: tuple[int, ...]


class CostSection(Part):
    """Cost by stage.

    Attributes:
        tokens: tokens generated, or trained on.
        uncounted: requests whose tokens the engine did not count, of the stages that have any; `tokens` is then at least
            so many.
        engine_seconds, code_seconds: totals over concurrent requests and executions; they exceed wall time.
        wall_seconds: wall time.
    """

    tokens: dict[str, int]
    uncounted: dict[str, int] = Field(default_factory=dict)
    engine_seconds: dict[str, float] = Field(default_factory=dict)
    code_seconds: dict[str, float] = Field(default_factory=dict)
    wall_seconds: dict[str, float] = Field(default_factory=dict)


class Sampling(Part):
    """How the rows of a benchmark were chosen.

    Attributes:
        limit: the most rows of each split; None for all.
        seed: of the draw.
        stratified: whether the draw kept each split's share of erroneous and of correct rows.
        available: split -> rows that its file holds.
    """

    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    stratified: bool = True
    available: dict[str, int] = Field(default_factory=dict)


class BenchmarkModel(Part):
    """The model that was measured.

    Attributes:
        name: a path, a hub id, or the server's name for it.
        url: the server; None for a model in this process.
        identity: what names its content, for example a digest of its files; None when a server keeps that to itself.
        components, votes: how it verified; no components for a reward that writes nothing.
    """

    name: str
    url: str | None = None
    identity: str | None = None
    components: Mode | Literal[""] = "cot+code+execution"
    votes: int = Field(default=1, ge=1)


class BenchmarkSection(Part):
    """A verifier on a benchmark of marked first errors.

    Attributes:
        name: for example `processbench`.
        splits: split -> votes -> figures; see `LocalisationSection` for the votes.
        average: votes -> the plain mean over the splits.
        data: split -> the file or hub name that it was read from.
    """

    name: str
    splits: dict[str, dict[str, LocalisationFigures]]
    average: dict[str, LocalisationFigures]
    data: dict[str, str]
    sampling: Sampling
    model: BenchmarkModel

    @model_validator(mode="after")
    def _keys(self) -> BenchmarkSection:
        for figures in (self.average, *self.splits.values()):
            _check_votes(figures)
            if set(figures) != set(self.average):
                raise ValueError("the splits and their average were voted on differently")
        return self


def _check_votes(figures: dict[str, LocalisationFigures]) -> None:
    for votes in figures:
        if not _VOTES.fullmatch(votes):
            raise ValueError(f"'{votes}' is not pass@1, maj@N or first_error@N")


class Provenance(Part):
    """Where the figures come from.

    Attributes:
        date: when the report was made, ISO 8601 with its time zone.
        git_commit: of the source tree that genprm ran from; None for an installed wheel.
        machine: the machine, as far as figures depend on it.
        command: the command line; None when the run was started from Python.
        config: the resolved config.
    """

    date: str
    git_commit: str | None = None
    machine: dict[str, str | int | None] = Field(default_factory=dict)
    command: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class Report(Record):
    """What a run measured.

    Attributes:
        kind: the command that made it.
        notes: what to read before the figures.
        training: form of the samples -> job.
        seconds: wall time of all stages, set-up excluded; None when it was not measured.
        seed: of the run.
        versions: package -> version, of what decides results.
    """

    title: str = Field(min_length=1)
    kind: Literal["quickstart", "eval", "run"]
    notes: tuple[str, ...] = ()
    labels: LabelsSection | None = None
    consensus: ConsensusSection | None = None
    training: dict[Literal["rationale", "direct"], TrainingSection] | None = None
    localisation: LocalisationSection | None = None
    best_of_n: BestOfNSection | None = None
    refinement: RefinementSection | None = None
    benchmark: BenchmarkSection | None = None
    cost: CostSection | None = None
    seconds: float | None = Field(default=None, ge=0)
    seed: int
    versions: dict[str, str]
    provenance: Provenance
