"""Rows with their places, from any source that has rows: a file, standard input, a hub."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from genprm.errors import DataError

HUB_PREFIX = "hub:"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
_STANDARD_INPUT = ("-", "/dev/stdin")


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
        """A field that must hold text or a number; a number becomes its plain notation (51.0 is `51`)."""
        value = self._get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, float | Decimal) and math.isfinite(value):
            return str(int(value)) if value == int(value) else format(Decimal(str(value)), "f")
        return self.text(column).strip()

    def first(self, columns: Iterable[str]) -> str | None:
        """The first of these columns that the row has."""
        return next((name for name in columns if self.values.get(name) is not None), None)

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
                hint=f"the row has {', '.join(sorted(map(str, self.values))) or 'no fields'}; "
                "name the right column with problems.columns, or choose another problems.preset",
            )
        return self.values[column]


def shown(value: Any) -> str:
    """A value as messages quote it: on one line, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def rows_of(source: str, split: str, hub_config: str | None = None) -> Iterator[Row]:
    """The rows of a file, of standard input or of a hub data set.

    Args:
        split: of a hub data set.
        hub_config: the configuration of a hub data set, unless `source` names one.

    Raises:
        DataError: at once if there is nothing to read, later at the first row that cannot be read.
        MissingExtraError: a hub is named, and the `datasets` package is not installed.
    """
    if source.startswith(HUB_PREFIX):
        from genprm.sources.hub import hub_rows

        return hub_rows(source.removeprefix(HUB_PREFIX), split, hub_config)
    return read_rows(source)


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, one after the other; `-` is standard input.

    A file is read by what it holds: JSON lines, one JSON array, JSON objects over several lines each, or
    Parquet. A byte order mark is skipped, and `~` is the home folder.

    Raises:
        DataError: at once if there is no such file, later at the first row that cannot be read.
    """
    from genprm.sources.json_rows import json_rows, standard_input_rows

    if str(path) in _STANDARD_INPUT:
        return standard_input_rows()
    file = locate(path)
    if stat.S_ISREG(file.stat().st_mode):
        if file.suffix not in SUFFIXES:
            raise DataError(
                f"{file}: unknown kind of file '{file.suffix}'", hint=f"use one of {', '.join(SUFFIXES)}"
            )
        if file.suffix == ".parquet" or _is_parquet(file):
            from genprm.sources.parquet_rows import parquet_rows

            return parquet_rows(file)
    return json_rows(file)


def can_be_read_again(source: str) -> bool:
    """Whether a second look at a source gives the same rows: not for standard input and other pipes."""
    if source in _STANDARD_INPUT:
        return False
    return source.startswith(HUB_PREFIX) or stat.S_ISREG(locate(source).stat().st_mode)


def locate(path: str | Path) -> Path:
    """The path of something that can be opened. Raises `DataError` if there is nothing, or a folder."""
    try:
        file = Path(path).expanduser()
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path}: no such file",
            hint=f"give a file ({', '.join(SUFFIXES)}), hub:ID, or - for standard input",
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise cannot_be_read(path, error) from error
    if stat.S_ISDIR(mode):
        raise DataError(
            f"{file} is a folder",
            hint=f"name a file in it, or {HUB_PREFIX}{file} if it is a data set's folder",
        )
    return file


def cannot_be_read(path: str | Path, error: Exception) -> DataError:
    """The error of a file that the system does not let us read."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"{path}: cannot be read: {why.splitlines()[0] if why else type(error).__name__}")


def _is_parquet(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            return handle.read(4) == b"PAR1"
    except OSError as error:
        raise cannot_be_read(file, error) from error
