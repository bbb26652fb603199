"""Rows with their places, from any source that has rows: a file, standard input, a hub."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from genprm.errors import DataError
from genprm.sources.delimited_rows import DELIMITERS, delimited_rows
from genprm.sources.json_rows import json_rows
from genprm.sources.row import HUB_PREFIX, Row, cannot_be_read

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_COMPRESSED = (".gz", ".zst")
_STANDARD_INPUT = ("-", "/dev/stdin")


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

    JSON is read by what it holds: lines, one array, or objects over several lines each. CSV and TSV are known by
    their suffix, and have a header; Parquet is known by its first bytes, and so are gzip and Zstandard around text. A
    byte order mark is skipped, and `~` is the home folder.

    Raises:
        DataError: at once if there is no such file, later at the first row that cannot be read.
    """
    if str(path) in _STANDARD_INPUT:
        return json_rows(None)
    if str(path).startswith(HUB_PREFIX):
        raise DataError(
            f"{path}: a data set of the hub is not read here, but a file is",
            hint=f"'genprm import {path} -o FILE' makes one of chats or step labels",
        )
    file = locate(path)
    kind = _kind(file)
    if stat.S_ISREG(file.stat().st_mode):
        if kind not in SUFFIXES:
            raise DataError(
                f"{file}: unknown kind of file '{file.suffix}'",
                hint=f"use one of {', '.join(SUFFIXES)}; text also with {' or '.join(_COMPRESSED)} behind it",
            )
        if kind == ".parquet" or _is_parquet(file):
            from genprm.sources.parquet_rows import parquet_rows

            return parquet_rows(file)
    return delimited_rows(file, DELIMITERS[kind]) if kind in DELIMITERS else json_rows(file)


def _kind(file: Path) -> str:
    """The suffix that says what a file holds."""
    name = file.with_suffix("") if file.suffix.lower() in _COMPRESSED else file
    return name.suffix.lower()


def can_be_read_again(source: str) -> bool:
    """Whether a second look at a source gives the same rows: not for standard input and other pipes."""
    if source in _STANDARD_INPUT:
        return False
    return source.startswith(HUB_PREFIX) or stat.S_ISREG(locate(source).stat().st_mode)


def locate(path: str | Path) -> Path:
    """The path of something that can be opened. Raises `DataError` if there is nothing, or a folder."""
    if not _is_text(str(path)):
        raise DataError(f"{str(path)!a}: the name is not UTF-8 text", hint="rename the file: rows name it")
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


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_parquet(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            return handle.read(4) == b"PAR1"
    except OSError as error:
        raise cannot_be_read(file, error) from error
