"""How rows of known data sets become problems."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from genprm.domains.math import extract_answer, tidy
from genprm.errors import DataError
from genprm.sources.row import Row

ID_COLUMNS = ("id", "ID", "problem_id", "unique_id")
TEXT_COLUMNS = ("problem", "question", "text")
_GSM8K_END = re.compile(r"^####[ \t]*\S.*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Preset:
    """How rows of a known data set become problems.

    Attributes:
        text: reads the problem's text.
        answer: reads the reference answer; None if the row has none.
        answer_from: reads the answer out of another column, if `problems.columns` names one.
        hub_config: the configuration to load from a hub unless one is given.
    """

    text: Callable[[Row], str]
    answer: Callable[[Row], str | None]
    answer_from: Callable[[Row, str], str]
    hub_config: str | None = None


def plain_text(row: Row) -> str:
    """The problem's text, from the first of `TEXT_COLUMNS` that is there."""
    return row.text(row.first(TEXT_COLUMNS) or TEXT_COLUMNS[0])


def problem_text(row: Row) -> str:
    """The problem's text of a row in any layout that has one in a field of its own, or in SVAMP's two.

    Raises:
        DataError: the row has none of these fields.
    """
    if {"Body", "Question"} <= row.values.keys():
        return _svamp_text(row)
    return row.text(row.first((*TEXT_COLUMNS, "prompt")) or TEXT_COLUMNS[0])


def plain_answer(row: Row) -> str | None:
    """The reference answer in `answer`; None if there is none. Raises `DataError` for GSM8K's whole solutions."""
    return _plain_answer(row, "answer") if _has_reference(row) else None


def stated_answer(row: Row) -> str | None:
    """The reference answer in `answer`, which may end a solution as GSM8K writes them; None if there is none."""
    if not _has_reference(row):
        return None
    return _gsm8k_answer(row) if _is_gsm8k(row.answer("answer")) else row.answer("answer")


def _has_reference(row: Row) -> bool:
    """Whether `answer` holds a reference: that of a sample (`genprm sample`) is what the policy came to."""
    return row.values.get("answer") is not None and "answer_how" not in row.values


def row_id(row: Row, column: str | None = None) -> str | None:
    """The row's id in `column`, or in the first of `ID_COLUMNS` that is there; None if there is none."""
    found = column or row.first(ID_COLUMNS)
    return None if found is None else row.answer(found)


def _plain_answer(row: Row, column: str) -> str:
    text = row.answer(column)
    if _is_gsm8k(text):
        raise DataError(
            f"{row.place}: field '{column}' is a whole solution that ends with '#### ANSWER', as GSM8K writes them",
            hint="use problems.preset=gsm8k (--preset gsm8k), which takes the answer out of it",
        )
    return text


def _is_gsm8k(text: str) -> bool:
    return _GSM8K_END.search(text) is not None


def _gsm8k_answer(row: Row, column: str = "answer") -> str:
    text = row.answer(column)
    if "####" not in text:
        raise DataError(
            f"{row.place}: field '{column}' has no '#### ANSWER' at its end",
            hint="use problems.preset=plain if the field is the answer itself",
        )
    found = text.rsplit("####", 1)[1].strip()
    if not found:
        raise DataError(f"{row.place}: field '{column}' has nothing after '####'")
    return tidy(found)


def _math_answer(row: Row) -> str:
    if row.values.get("answer") is not None:
        return row.answer("answer")
    found = extract_answer(row.text("solution"))
    if found is None:
        raise DataError(f"{row.place}: field 'solution' states no answer (no \\boxed{{...}})")
    return found


def _svamp_text(row: Row) -> str:
    body, question = row.text("Body").strip(), row.text("Question").strip()
    if body[-1] in ".!?":
        return f"{body} {question}"
    # Such a body ends in the middle of a sentence that the question continues.
    return f"{body}, {question[0].lower()}{question[1:]}"


PRESETS: dict[str, Preset] = {
    "plain": Preset(plain_text, plain_answer, _plain_answer),
    "gsm8k": Preset(lambda row: row.text("question"), _gsm8k_answer, _gsm8k_answer, hub_config="main"),
    "math": Preset(lambda row: row.text("problem"), _math_answer, Row.answer),
    "svamp": Preset(_svamp_text, lambda row: row.answer("Answer"), Row.answer),
}
