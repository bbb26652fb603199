"""Rows of CSV and TSV with a header. Cells are text, as they stand; an empty one is a missing value."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from genprm.errors import DataError
from genprm.sources.opening import opened
from genprm.sources.row import Row, shown
from genprm.sources.text_lines import text_lines
from genprm.text.counts import counted

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""By a file's suffix."""

_JSON_COLUMNS = ("steps", "label", "final_answer_correct")
"""Columns whose readers want a list, a number or a truth value: their cells hold JSON."""
_SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'", ",": "','"}
"""What files are separated by that were saved under another suffix, or for another country, as messages name it."""
_HINT = "the first line names the columns; a cell with a delimiter, a quote or a line break stands in double quotes"


def delimited_rows(file: Path, delimiter: str) -> Iterator[Row]:
    """The rows of a file, one in memory at a time."""
    with opened(file) as lines:
        yield from _rows(lines, str(file), delimiter)


def _rows(raw: Iterable[bytes], name: str, delimiter: str) -> Iterator[Row]:
    texts = (text for _, text in text_lines(raw, name))
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            place, line = f"{name}:{line}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _header(cells, place)
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{place}: the row has {counted(len(cells), 'cell')}, the header {len(header)}",
                    hint=_HINT,
                )
            yield Row(place, {key: _value(key, cell) for key, cell in zip(header, cells, strict=True)})
    except csv.Error as error:
        if "field limit" in str(error):
            raise DataError(
                f"{name}:{line}: a cell of this row has more than {csv.field_size_limit():,} characters",
                hint="is a double quote open, so that all that follows is one cell? CSV with cells as long as this is "
                "not read: use JSONL or Parquet",
            ) from error
        raise DataError(f"{name}:{reader.line_num}: not valid CSV: {error}", hint=_HINT) from error


def _header(cells: list[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    found = next((other for other in _SEPARATORS if other in names[0]), None)
    if len(names) == 1 and found is not None:
        raise DataError(
            f"{place}: the header is a single column, {shown(names[0])}",
            hint=f"the separator seems to be {_SEPARATORS[found]}; columns are separated by commas in a .csv file, by "
            "tabs in a .tsv file",
        )
    if not all(names):
        raise DataError(f"{place}: column {names.index('') + 1} has no name", hint=_HINT)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{place}: two columns are called '{twice[0]}'", hint=_HINT)
    return names


def _value(column: str, cell: str) -> Any:
    if not cell:
        return None
    if column in _JSON_COLUMNS:
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell  # whoever reads the column says what it wants
    return cell
