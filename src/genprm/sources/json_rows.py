"""Rows of JSON text: objects one per line, one array, or objects over several lines each.

Lines are read as bytes and decoded one by one, so that an error names the line that it is on.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from genprm.errors import DataError
from genprm.sources.row import Row, cannot_be_read

_BLANK = " \t\r\n"
_BLANKS = re.compile(f"[{_BLANK}]*")
_HINT = "a file holds one JSON object per line, or one array of objects"


def json_rows(file: Path) -> Iterator[Row]:
    """The rows of a file. Only a document that is spread over lines is held in memory."""
    try:
        with file.open("rb") as lines:
            yield from _rows(lines, str(file))
    except OSError as error:
        raise cannot_be_read(file, error) from error


def standard_input_rows() -> Iterator[Row]:
    """The rows of standard input, in the same forms as a file's."""
    return _rows(sys.stdin.buffer, "standard input")


def _rows(raw: Iterable[bytes], name: str) -> Iterator[Row]:
    lines = ((number, text) for number, text in _text_lines(raw, name) if text.strip(_BLANK))
    first = next(lines, None)
    if first is None:
        return
    if _spans_lines(first[1]):
        yield from _document_rows([first, *lines], name)
        return
    for number, text in itertools.chain([first], lines):
        place = f"{name}:{number}"
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _not_json(error, name, [(number, text)]) from error
        yield _object(value, place)


def _text_lines(raw: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(raw, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            character = len(line[: error.start].decode()) + 1
            raise DataError(
                f"{name}:{number}: not UTF-8 text at character {character} ({error.reason})",
                hint="save the file as UTF-8",
            ) from error


def _spans_lines(text: str) -> bool:
    """Whether a file's first line opens an array, or an object that the line does not end."""
    start = text.lstrip(_BLANK)
    if start.startswith("["):
        return True
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return start.startswith("{") and error.pos >= len(text.rstrip(_BLANK))
    except (ValueError, RecursionError):
        return False
    return False


def _document_rows(lines: list[tuple[int, str]], name: str) -> Iterator[Row]:
    """The elements of an array, or the objects of a text that holds one after the other."""
    text = "\n".join(line for _, line in lines)
    decode = json.JSONDecoder().raw_decode
    start, index = _after_blanks(text, 0), 0
    try:
        while start < len(text):
            value, end = decode(text, start)
            following = _after_blanks(text, end)
            if isinstance(value, list) and index == 0:
                if following < len(text):
                    raise json.JSONDecodeError("Extra data", text, following)
                for number, entry in enumerate(value, start=1):
                    yield _object(entry, f"{name} row {number}")
            else:
                yield _object(value, f"{name}:{lines[index][0]}")
            index += text.count("\n", start, following)
            start = following
    except (ValueError, RecursionError) as error:
        raise _not_json(error, name, lines) from error


def _after_blanks(text: str, start: int) -> int:
    match = _BLANKS.match(text, start)
    return match.end() if match else start


def _not_json(error: Exception, name: str, lines: list[tuple[int, str]]) -> DataError:
    """The error of a text that was made of these numbered lines."""
    if isinstance(error, json.JSONDecodeError):
        place = f"{name}:{lines[error.lineno - 1][0]}"
        return DataError(f"{place}: not valid JSON: {error.msg} at character {error.colno}", hint=_HINT)
    return DataError(f"{name}:{lines[0][0]}: not valid JSON: {error}", hint=_HINT)


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{place}: a JSON object is needed, not {_kind(value)}", hint=_HINT)
    return Row(place, value)


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "a truth value", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")
