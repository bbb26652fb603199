"""Data without what evaluation sets hold, and without near duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from genprm.api.given import checked_rows
from genprm.api.models import shortened
from genprm.errors import DataError
from genprm.records import LabelledSolution, Problem, TrainingSample
from genprm.sources.overlap import EvaluationSets
from genprm.sources.screening import RowT, Screen, Screened, check_screen


def decontaminate(
    rows: Iterable[RowT], sets: Mapping[str, str | Path], *, near_duplicates: float | None = None
) -> Screened[RowT]:
    """The rows whose problems are in no evaluation set and, if asked for, that nearly repeat no earlier row.

    A problem is in a set if 13 words in a row are those of one of its problems; problems with fewer words are compared
    whole. Words are compared in lower case and without punctuation around them.

    Args:
        rows: problems, labelled solutions or chats; read as fast as the result is iterated over.
        sets: by a name for reports, a file or `hub:ID` (split `test`) whose rows have a problem's text: GSM8K,
            ProcessBench and the like as they are.
        near_duplicates: the share of common runs of five words (Jaccard similarity, estimated by MinHash) from which a
            row counts as a near duplicate, 0.1 to 0.95. Of labelled solutions and chats problem and steps are compared,
            so that several solutions of one problem stay.

    Returns:
        The rows that stay, with counts of the others and examples once they were iterated over (`summary()`).

    Raises:
        DataError: a set cannot be read or has no rows, or a row of it holds no problem; what is given are no rows (of a
            single one, while the result is iterated over).
        MissingExtraError: the extra `data` is not installed, which near duplicates need.
    """
    if not isinstance(sets, Mapping):
        raise DataError(
            f"the evaluation sets cannot be {shortened(sets)}",
            hint='Name each for the report: {"gsm8k": "gsm8k_test.jsonl"}.',
        )
    found = {name: str(source) for name, source in sets.items()}
    check_screen(found, near_duplicates)
    given = checked_rows(rows, (Problem, LabelledSolution, TrainingSample), "load_labelled")
    return Screened(cast("Iterable[RowT]", given), Screen(EvaluationSets(found), near_duplicates))
