"""Lines of bytes as numbered lines of text. Each is decoded by itself, so that an error names the line that it is on."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from genprm.errors import DataError


def text_lines(raw: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1, with their ends; a byte order mark at the beginning is skipped.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(raw, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            character = len(line[: error.start].decode()) + 1
            raise DataError(
                f"{name}:{number}: not UTF-8 text at character {character} ({error.reason})",
                hint="save the file as UTF-8",
            ) from error
