"""Problems, and the solutions that a policy wrote for them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from genprm.records.base import Record, Usage

LEFT_OUT = "left_out"
"""The key of a problem's metadata that says why it is left out before anything is sampled: reason and detail."""


class Problem(Record):
    """A problem x with its reference answer q* (None where there is none)."""

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    answer: str | None = None
    source: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def left_out(self) -> tuple[str, str] | None:
        """Why it is left out before anything is sampled (reason, detail); None if it is not."""
        found = self.metadata.get(LEFT_OUT)
        return None if found is None else (found["reason"], found["detail"])


class Solution(Record):
    """A solution a_1..a_T that a policy wrote.

    Attributes:
        steps: the T paragraphs, as the verifier will see them.
        answer: the final answer q extracted from the text; None if it states none.
        answer_how: how the answer was found (`Extracted.how`); `conclusion` is an interpretation of prose.
        correct: whether q equals q*; None where it could not be graded (`ungraded_reason` says why).
        invalid: what makes it unfit for training, if anything: `unfinished` (cut by the token budget),
            `too_few_steps`, or `no_answer`. An evaluation counts it all the same.
        policy: the engine that wrote it.
        sample: the index of the sample among those drawn for the problem.
    """

    id: str = Field(min_length=1)
    problem_id: str
    steps: tuple[str, ...] = Field(min_length=1)
    answer: str | None = None
    answer_how: str = "none"
    correct: bool | None = None
    ungraded_reason: str | None = None
    invalid: Literal["unfinished", "too_few_steps", "no_answer"] | None = None
    policy: str = ""
    sample: int = 0
    usage: Usage = Usage()


def problem_of(row: BaseModel) -> str:
    """The id of the problem that a row of any stage belongs to."""
    found: str = row.id if isinstance(row, Problem) else row.problem_id  # type: ignore[attr-defined]
    return found
