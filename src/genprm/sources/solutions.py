"""Solutions to verify, each with its problem, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genprm.domains import Domain, load_domain
from genprm.errors import DataError
from genprm.identity import content_key
from genprm.records import Problem, Solution
from genprm.sources.presets import TEXT_COLUMNS, plain_text, row_id, stated_answer
from genprm.sources.row import Row, no_rows, shown
from genprm.sources.rows import can_be_read_again, rows_of
from genprm.sources.unique import Placed, with_unique_ids

_NOTES = ("label", "final_answer_correct", "generator")

Pair = tuple[Problem, Solution]


def iterate_solutions(
    path: str | Path, split: str = "train", *, domain: Domain | None = None
) -> Iterator[Pair]:
    """Solutions with their problems, from a file, standard input (`-`) or a hub data set, in its order.

    A row has the problem's text (`problem`, `question` or `text`) and either `steps` (a list of
    paragraphs) or `solution` (a text, which the domain splits into steps); `id` and `answer` (the reference, or
    GSM8K's solution that ends with it) are optional. ProcessBench rows fit; their annotations go to the problem's
    metadata. So do the rows of `genprm sample`, whose `answer` is the policy's own and no reference.

    Args:
        split: of a hub data set.
        domain: splits texts and extracts answers; mathematics unless given.

    Raises:
        DataError: at once if there is nothing to read; later for a row that cannot be used, for a second row with
            one id, and if there are no rows at all.
    """
    return (pair for _, pair in named_solutions(path, split, domain=domain))


def named_solutions(
    path: str | Path, split: str = "train", *, domain: Domain | None = None
) -> Iterator[tuple[str, Pair]]:
    """What `iterate_solutions` gives, each with a name for readers: the row's own id, else its place (`file.jsonl:2`).

    Raises:
        DataError: as `iterate_solutions` does.
    """
    source = str(path)
    subject = domain or load_domain("math")
    again = can_be_read_again(source)
    return _named_pairs(source, split, subject, again=again)


def load_solutions(path: str | Path, split: str = "train", *, domain: Domain | None = None) -> list[Pair]:
    """All that `iterate_solutions` gives."""
    return list(iterate_solutions(path, split, domain=domain))


def _named_pairs(source: str, split: str, domain: Domain, *, again: bool) -> Iterator[tuple[str, Pair]]:
    found = False
    for named in with_unique_ids(lambda: _read(source, split, domain), again=again):
        found = True
        yield named
    if not found:
        raise no_rows(source)


def _read(source: str, split: str, domain: Domain) -> Placed[tuple[str, Pair]]:
    for row in rows_of(source, split):
        if row.first(TEXT_COLUMNS) is None:
            raise DataError(f"{row.place}: no field holds the problem", hint=_columns_hint(row))
        text, steps = plain_text(row).strip(), _steps(row, domain)
        own = row_id(row)
        identifier = own or content_key(text, steps)
        problem = Problem(
            id=identifier,
            text=text,
            answer=stated_answer(row),
            source=source,
            metadata=_notes(row),
        )
        found = domain.extract("\n\n".join(steps))
        solution = Solution(
            id=identifier, problem_id=identifier, steps=steps, answer=found.answer, answer_how=found.how
        )
        yield identifier, row.place, (own or row.place, (problem, solution))


def _columns_hint(row: Row) -> str:
    return (
        f"the row has {row.columns()}; call the problem's field problem, question or text, and its solution's steps "
        "(a list of paragraphs) or solution (one text)"
    )


def _notes(row: Row) -> dict[str, Any]:
    notes = {name: row.values[name] for name in _NOTES if name in row.values}
    for name, value in notes.items():
        if isinstance(value, str):
            row.encodable(value, f"field '{name}'")
    return notes


def _steps(row: Row, domain: Domain) -> tuple[str, ...]:
    if row.values.get("steps") is None:
        if row.values.get("solution") is None:
            raise DataError(
                f"{row.place}: neither 'steps' nor 'solution' is there", hint=_columns_hint(row)
            )
        return domain.split(row.text("solution"))
    steps = row.values["steps"]
    if not isinstance(steps, list) or not steps:
        raise DataError(f"{row.place}: field 'steps' must be a list of paragraphs that is not empty")
    for number, step in enumerate(steps, start=1):
        what = f"field 'steps', paragraph {number}"
        if not isinstance(step, str) or not step.strip():
            raise DataError(f"{row.place}: {what}: no text ({shown(step)})")
        row.encodable(step, what)
    return tuple(steps)
