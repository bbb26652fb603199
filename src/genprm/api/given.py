"""Rows that callers give from Python: records of one kind, and nothing that only looks like them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from genprm.api.models import shortened
from genprm.errors import DataError

RowT = TypeVar("RowT", bound=BaseModel)


def given_rows(rows: object, kind: type[RowT], reader: str) -> list[RowT]:
    """The rows as a list, once each of them is a record that can be written down.

    Args:
        reader: the call that reads such rows from a run or a file.

    Raises:
        DataError: a path or anything else in place of rows, a row of another kind, or one that no file can hold.
    """
    hint = f"genprm.{reader} reads them from a run or a file"
    if isinstance(rows, str | Path) or not isinstance(rows, Iterable):
        raise DataError(f"these are no rows of {kind.__name__}: {shortened(rows)}", hint=hint)
    found: list[RowT] = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, kind):
            raise DataError(f"row {number} is no {kind.__name__}: {shortened(row)}", hint=hint)
        try:
            row.model_dump_json()
        except ValueError as error:  # pydantic's own, of text that is no text
            raise DataError(
                f"row {number} cannot be written down: {str(error).splitlines()[0]}",
                hint="half of a surrogate pair (U+D800 to U+DFFF) is no character: mend it, or leave the row out",
            ) from error
        found.append(row)
    return found
