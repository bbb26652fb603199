"""One row of a source, and what its fields must hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Self

from genprm.errors import DataError

HUB_PREFIX = "hub:"
_LONGEST_EXPONENT = 400
"""Numbers with a larger one stay as they are written, so that `1e999999` does not become a million digits."""


class WrittenFloat(float):
    """A number of a text file that remembers how it was written: 0.10 is another reference than 0.1."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Self:
        """The number that this text stands for."""
        number = super().__new__(cls, written)
        number.written = written
        return number


def no_rows(source: str) -> DataError:
    """The error for a source that holds nothing."""
    return DataError(f"{source}: no rows", hint="it is empty: look at what wrote it, or name another one")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source.

    Attributes:
        place: where it stands, for messages: `file.jsonl:12` (a line, from 1), or `file.parquet row 3`.
        values: its fields.
    """

    place: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A field that must hold text that is not blank. Raises `DataError` if it does not."""
        value = self._get(column)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{self.place}: field '{column}' holds no text ({shown(value)})")
        return self.encodable(value, f"field '{column}'")

    def answer(self, column: str) -> str:
        """A field that must hold text or a number; a number is given digit by digit as it was written, without an
        exponent (1e-05 is `0.00001`, 0.10 is `0.10`), and a whole one as such (51.0 is `51`).
        """
        value = self._get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, WrittenFloat):
            return _plain_notation(value.written)
        if isinstance(value, float | Decimal) and math.isfinite(value):
            return _plain_notation(str(value))
        return self.text(column).strip()

    def first(self, columns: Iterable[str]) -> str | None:
        """The first of these columns that the row has."""
        return next((name for name in columns if self.values.get(name) is not None), None)

    def columns(self) -> str:
        """The names of its fields, for messages."""
        return ", ".join(sorted(map(str, self.values))) or "no fields"

    def encodable(self, text: str, what: str) -> str:
        """The text itself. Raises `DataError` if it holds half of a surrogate pair, which no file can hold."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.place}: {what} holds half of a surrogate pair at character {error.start + 1}",
                hint="a \\ud800 to \\udfff escape counts only as one of a pair; write the file again as UTF-8",
            ) from error
        return text

    def _get(self, column: str) -> Any:
        if column not in self.values:
            raise DataError(
                f"{self.place}: field '{column}' is missing",
                hint=f"the row has {self.columns()}; name the right column with problems.columns, "
                "or choose another problems.preset",
            )
        return self.values[column]


def _plain_notation(written: str) -> str:
    try:
        number = Decimal(written)
    except InvalidOperation:  # an exponent that no machine can hold
        return written
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _LONGEST_EXPONENT:
        return written
    whole = number.to_integral_value()
    if number != whole:
        return format(number, "f")
    return format(whole, "f") if whole else "0"  # -0.0 is 0


def shown(value: Any) -> str:
    """A value as messages quote it: on one line, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def cannot_be_read(path: str | Path, error: Exception) -> DataError:
    """The error of a file that the system does not let us read."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"{path}: cannot be read: {why.splitlines()[0] if why else type(error).__name__}")
