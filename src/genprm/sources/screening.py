"""What is left out before anything is sampled or trained on: what evaluation sets hold, and near duplicates."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from genprm.errors import MissingExtraError
from genprm.records import LEFT_OUT, LabelledSolution, Problem, TrainingSample
from genprm.sources.near import NearDuplicates
from genprm.sources.overlap import EvaluationSets
from genprm.sources.row import HUB_PREFIX
from genprm.sources.rows import locate

CONTAMINATED = "contaminated"
NEAR_DUPLICATE = "near_duplicate"
_EXAMPLES = 3
RowT = TypeVar("RowT", Problem, LabelledSolution, TrainingSample)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a row is left out.

    Attributes:
        reason: `contaminated` or `near_duplicate`.
        by: the evaluation set; empty for a near duplicate.
    """

    reason: str
    detail: str
    by: str = ""


class Screen:
    """Says why texts are left out, one after the other; a text counts from 1.

    Args:
        sets: evaluation sets to compare with.
        near_duplicates: the similarity from which texts count as near duplicates; None if they may stay.

    Raises:
        MissingExtraError: near duplicates are looked for, and the extra `data` is not installed.
    """

    def __init__(self, sets: EvaluationSets, near_duplicates: float | None = None) -> None:
        self._sets = sets
        self._near = None if near_duplicates is None else NearDuplicates(near_duplicates)
        self._count = 0

    def objection(self, problem: str, whole: str | None = None) -> Objection | None:
        """Why the next row is left out; None if it may stay.

        Args:
            problem: the problem's text, which is compared with evaluation sets.
            whole: what is compared with earlier rows; the problem's text unless given.
        """
        self._count += 1
        overlap = self._sets.find(problem)
        if overlap is not None:
            return Objection(CONTAMINATED, f"also in {overlap}", overlap.name)
        if self._near is None:
            return None
        earlier = self._near.add(problem if whole is None else whole, self._count)
        return None if earlier is None else Objection(NEAR_DUPLICATE, f"nearly the same as row {earlier}")

    def marked(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """All problems in order; those to be left out say so (`Problem.left_out`)."""
        for problem in problems:
            brought = problem.metadata.get(
                "steps", ()
            )  # solutions of one problem are not each other's duplicates
            found = self.objection(problem.text, "\n".join([problem.text, *brought]))
            if found is None:
                yield problem
                continue
            mark = {"reason": found.reason, "detail": found.detail}
            yield problem.model_copy(update={"metadata": {**problem.metadata, LEFT_OUT: mark}})


def check_screen(sets: Mapping[str, str], near_duplicates: float | None) -> None:
    """Find out, without reading a row, whether rows can be screened.

    Raises:
        DataError: there is no such file.
        MissingExtraError: near duplicates are looked for, and the extra `data` is not installed.
    """
    for source in sets.values():
        if not source.startswith(HUB_PREFIX):
            locate(source)
    if near_duplicates is not None and importlib.util.find_spec("datasketch") is None:
        raise MissingExtraError("datasketch", "data", "removing near duplicates")


@dataclass(slots=True)
class Screened(Generic[RowT]):
    """The rows that may stay, in order; can be iterated once. The other fields count while that is done.

    Attributes:
        kept: rows given so far.
        left_out: rows left out so far, by reason.
        by_set: those of them that are in an evaluation set, by its name.
        examples: some of the rows left out, by reason, in words.
    """

    rows: Iterable[RowT]
    screen: Screen
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    by_set: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[RowT]:
        for row in self.rows:
            found = self.screen.objection(*_texts(row))
            if found is None:
                self.kept += 1
                yield row
                continue
            self.left_out[found.reason] += 1
            if found.by:
                self.by_set[found.by] += 1
            examples = self.examples.setdefault(found.reason, [])
            if len(examples) < _EXAMPLES:
                examples.append(f"{row.id}: {found.detail}")

    def summary(self) -> str:
        """How many rows were left out, by reason, with examples; empty if none was."""
        lines = []
        for reason, count in self.left_out.most_common():
            sets = ", ".join(f"{name} {number}" for name, number in self.by_set.most_common())
            lines.append(f"left out, {reason}: {count}{f' ({sets})' if reason == CONTAMINATED else ''}")
            lines += [f"    {example}" for example in self.examples[reason]]
        return "".join(f"{line}\n" for line in lines)


def _texts(row: Problem | LabelledSolution | TrainingSample) -> tuple[str, str]:
    """What of a row is compared with evaluation sets, and what with earlier rows.

    Solutions of one problem are not each other's duplicates, and neither are chats about them. Of a chat the first
    question counts as the problem, together with what the prompt profile puts beside it.
    """
    if isinstance(row, Problem):
        return row.text, row.text
    if isinstance(row, LabelledSolution):
        return row.problem, "\n".join([row.problem, *row.steps])
    asked = [message.content for message in row.conversations if message.role == "user"]
    return asked[0], "\n".join(asked)
