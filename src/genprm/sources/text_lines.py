"""Lines of bytes as numbered lines of text. Each is decoded by itself, so that an error names the line that it is on."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from genprm.errors import DataError

_OPENING = 200
# What clones and browsers leave in place of a file of data.
_STAND_INS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS, not the data",
        "run `git lfs pull` in its clone",
    ),
    (b"<!doctype html", "a web page, not the data", "download the raw file, not the page that shows it"),
    (b"<html", "a web page, not the data", "download the raw file, not the page that shows it"),
)


def text_lines(raw: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1, with their ends; a byte order mark at the beginning is skipped.

    Raises:
        DataError: a line is not UTF-8, or the first one shows that this is something else than the data.
    """
    for number, line in enumerate(raw, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            _refuse_stand_ins(line[:_OPENING].lower(), name)
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            character = len(line[: error.start].decode()) + 1
            raise DataError(
                f"{name}:{number}: not UTF-8 text at character {character} ({error.reason})",
                hint="save the file as UTF-8",
            ) from error


def _refuse_stand_ins(opening: bytes, name: str) -> None:
    for mark, what, hint in _STAND_INS:
        if opening.lstrip().startswith(mark):
            raise DataError(f"{name}: {what}", hint=hint)
