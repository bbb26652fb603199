"""Which of N candidates each rule chooses (method, policy test-time scaling)."""

from __future__ import annotations

from genprm.records.base import Part, Record


class Choice(Part):
    """The candidate that a rule chooses.

    Attributes:
        solution_id: the chosen solution; None if the rule has nothing to choose by (`reason` says why).
        answer: its answer.
        correct: whether that is right; None if it is unknown.
    """

    solution_id: str | None = None
    answer: str | None = None
    correct: bool | None = None
    reason: str | None = None


class Selection(Record):
    """Best-of-N on one problem: what each rule chooses among the same candidates.

    Attributes:
        candidates: ids of the candidates, in the order in which they were sampled.
        choices: by rule: `first` (Pass@1), `majority`, `last`, `mean`, `min`, `prod` and `weighted`.
    """

    problem_id: str
    candidates: tuple[str, ...]
    choices: dict[str, Choice]
