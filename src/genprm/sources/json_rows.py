"""Rows of JSON text: objects one per line, one array, or objects over several lines each."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from genprm.errors import DataError
from genprm.sources.opening import STANDARD_INPUT, opened
from genprm.sources.row import Row, WrittenFloat, shown
from genprm.sources.text_lines import text_lines

_BLANK = " \t\r\n"
_BLANKS = re.compile(f"[{_BLANK}]*")
_HINT = "a file holds one JSON object per line, or one array of objects"
# Python turns no longer text of digits into an integer.
_LONGEST_INTEGER = 4300


class _Twice(ValueError):
    """One object has a key twice: whichever value counts, the other one is lost."""


def _whole(written: str) -> int | WrittenFloat:
    return int(written) if len(written) <= _LONGEST_INTEGER else WrittenFloat(written)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Twice(f"the key {shown(twice)} stands twice in one object")
    return found


_DECODER = json.JSONDecoder(parse_float=WrittenFloat, parse_int=_whole, object_pairs_hook=_unique)


def json_rows(file: Path | None) -> Iterator[Row]:
    """The rows of a file, or of standard input if it is None. Only a document over several lines is held in memory."""
    with opened(file) as lines:
        yield from _rows(lines, STANDARD_INPUT if file is None else str(file))


def _rows(raw: Iterable[bytes], name: str) -> Iterator[Row]:
    found = ((number, text.rstrip("\r\n")) for number, text in text_lines(raw, name))
    lines = ((number, text) for number, text in found if text.strip(_BLANK))
    first = next(lines, None)
    if first is None:
        return
    if _spans_lines(first[1]):
        yield from _document_rows([first, *lines], name)
        return
    for number, text in itertools.chain([first], lines):
        place = f"{name}:{number}"
        try:
            value = _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            raise _not_json(error, name, [(number, text)]) from error
        yield _object(value, place)


def _spans_lines(text: str) -> bool:
    """Whether a file's first line opens an array, or an object that the line does not end."""
    start = text.lstrip(_BLANK)
    if start.startswith("["):
        return True
    try:
        _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return start.startswith("{") and error.pos >= len(text.rstrip(_BLANK))
    except (ValueError, RecursionError):
        return False
    return False


def _document_rows(lines: list[tuple[int, str]], name: str) -> Iterator[Row]:
    """The elements of an array, or the objects of a text that holds one after the other."""
    text = "\n".join(line for _, line in lines)
    decode = _DECODER.raw_decode
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
    if isinstance(error, _Twice):
        place = f"{name}:{lines[0][0]}" if len(lines) == 1 else name
        return DataError(f"{place}: {error}", hint="give each column one value")
    why = "it is nested too deeply" if isinstance(error, RecursionError) else error
    return DataError(f"{name}:{lines[0][0]}: not valid JSON: {why}", hint=_HINT)


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{place}: a JSON object is needed, not {_kind(value)}", hint=_HINT)
    return Row(place, value)


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "a truth value", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")
