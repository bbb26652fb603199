"""Rows that callers give from Python: records of one kind, and nothing that only looks like them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from genprm.api.models import shortened
from genprm.errors import DataError

RowT = TypeVar("RowT", bound=BaseModel)
_WHOLES = (str, bytes, Path, Mapping, BaseModel)
"""What can be iterated over, some of it, and still is one thing and not several."""


def several(values: object, what: str, hint: str) -> Iterable[Any]:
    """The values, if they are several things to read one after the other.

    Args:
        what: names them in messages.

    Raises:
        DataError: a text, a path, a single record, or nothing that can be iterated over.
    """
    if isinstance(values, _WHOLES) or not isinstance(values, Iterable):
        raise DataError(f"{what}: {shortened(values)}", hint=hint)
    return values


def given_rows(rows: object, kind: type[RowT], reader: str) -> list[RowT]:
    """The rows as a list, once each of them is a record that can be written down. See `checked_rows`."""
    return list(checked_rows(rows, (kind,), reader))


def checked_rows(rows: object, kinds: tuple[type[RowT], ...], reader: str) -> Iterator[RowT]:
    """The rows, each looked at when it is read.

    Args:
        reader: the call that reads such rows from a run or a file.

    Raises:
        DataError: a path or anything else in place of rows, a row of another kind, or one that no file can hold.
    """
    name = " or ".join(kind.__name__ for kind in kinds)
    hint = f"genprm.{reader} reads them from a run or a file"
    return _checked(several(rows, f"these are no rows of {name}", hint), kinds, name, hint)


def _checked(rows: Iterable[Any], kinds: tuple[type[RowT], ...], name: str, hint: str) -> Iterator[RowT]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, kinds):
            raise DataError(f"row {number} is no {name}: {shortened(row)}", hint=hint)
        try:
            row.model_dump_json()
        except ValueError as error:  # pydantic's own, of text that is no text
            raise DataError(
                f"row {number} cannot be written down: {str(error).splitlines()[0]}",
                hint="half of a surrogate pair (U+D800 to U+DFFF) is no character: mend it, or leave the row out",
            ) from error
        yield row
