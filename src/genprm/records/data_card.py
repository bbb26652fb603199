"""What a set of labels or chats holds and how it was made, as `*.card.json` beside the set."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from genprm.records.base import Part, Record, Usage


class SetContents(Part):
    """What a file of labelled solutions or chats holds.

    Attributes:
        kind: of the rows.
        steps: the labels of steps: `right`, `wrong` and `unknown`. Of chats they are the judgements.
        first_errors: place of the first error, from 1, -> rows; `none` and `unknown` besides.
        components: of chats, what their answers are made of -> rows.
        rejected: reason -> rows of the file that cannot be read back; the other fields are without them.
        checksum: of the file's bytes.
    """

    kind: Literal["labelled solutions", "chats"]
    layout: str
    rows: int = Field(ge=0)
    steps: dict[Literal["right", "wrong", "unknown"], int]
    first_errors: dict[str, int]
    components: dict[str, int] = Field(default_factory=dict)
    rejected: dict[str, int] = Field(default_factory=dict)
    checksum: str


class StageCounts(Part):
    """What a stage was given, kept and dropped, and at which cost.

    Attributes:
        reasons: reason -> what was dropped for it; single samples count where it starts with `sample_`.
        pending: problems that are not settled.
        seconds: wall time.
    """

    stage: str
    problems: int
    rows: int
    dropped: int
    reasons: dict[str, int]
    pending: int
    usage: Usage
    seconds: float


class DataOrigin(Part):
    """How a run made its data.

    Attributes:
        problems: the config's section.
        roles: role -> the model's or the server's name, else the engine's kind.
        label_rule: the rule and what it compares with; None if the labels came with the solutions.
        estimator: of the Monte-Carlo scores; None without any.
        identity: of the run's config.
        git_commit: of the source tree; None for an installed wheel, or if it was not recorded.
    """

    problems: dict[str, Any]
    roles: dict[str, str]
    label_rule: dict[str, Any] | None
    estimator: str | None
    seed: int
    identity: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    git_commit: str | None = None
    stages: tuple[StageCounts, ...] = ()


class DataCard(Record):
    """A set, and how it was made.

    Attributes:
        name: of the file.
        left_out, shortened: rows that the layout could not hold at all, or only up to their first unknown label.
        origin: None for a set that no run made.
    """

    name: str
    contents: SetContents
    left_out: int = 0
    shortened: int = 0
    origin: DataOrigin | None = None
