"""Imports that leave out rows they cannot use, and count them by reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from genprm.errors import DataError
from genprm.sources.row import Row, no_rows
from genprm.text.counts import counted

T = TypeVar("T")


class Unusable(Exception):
    """A row that is left out.

    Args:
        reason: a word that rows are counted by.
        detail: what is wrong with this one.
        hint: what to do if a whole source is like this.
    """

    def __init__(self, reason: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.hint = hint


@dataclass(slots=True)
class Rejected:
    """Rows that were left out for one reason.

    Attributes:
        first: place and detail of the first one.
        hint: see `Unusable`.
    """

    count: int
    first: str
    hint: str = ""


class CountedRows(Generic[T]):
    """Rows of a source, one after the other; can be iterated once.

    Attributes:
        source: for messages.
        kept: rows given so far.
        rejected: rows left out so far, by reason.

    Args:
        content: what two rows have in common if one repeats the other; repeats are left out. None if all may stay.
        settle: what becomes of a row in view of those before it.

    Raises (while iterating):
        DataError: the source cannot be read, or holds no usable row at all.
    """

    def __init__(
        self,
        source: str,
        rows: Iterator[Row],
        read: Callable[[Row], T],
        content: Callable[[T], str | None] = lambda _: None,
        settle: Callable[[T], T] = lambda row: row,
    ) -> None:
        self.source = source
        self._content = content
        self._settle = settle
        self._seen: set[bytes] = set()
        self.kept = 0
        self.rejected: dict[str, Rejected] = {}
        self._rows = self._usable(rows, read)

    def __iter__(self) -> Iterator[T]:
        return self._rows

    def summary(self) -> str:
        """How many rows were left out, by reason, with a place for each; empty if none was."""
        return "".join(
            f"left out, {reason}: {one.count}, the first at {one.first}\n"
            for reason, one in sorted(self.rejected.items(), key=lambda pair: -pair[1].count)
        )

    def _reject(self, reason: str, first: str, hint: str = "") -> None:
        self.rejected.setdefault(reason, Rejected(0, first, hint)).count += 1

    def _repeats(self, found: T) -> bool:
        content = self._content(found)
        if content is None:
            return False
        key = hashlib.blake2b(content.encode(), digest_size=16).digest()
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    def _usable(self, rows: Iterator[Row], read: Callable[[Row], T]) -> Iterator[T]:
        for row in rows:
            try:
                found = read(row)
            except Unusable as problem:
                self._reject(problem.reason, f"{row.place}: {problem}", problem.hint)
                continue
            except DataError as error:  # its message begins with the place
                self._reject("broken_field", error.message)
                continue
            if self._repeats(found):
                self._reject("repeated", f"{row.place}: an earlier row says the same")
                continue
            self.kept += 1
            yield self._settle(found)
        if not self.kept:
            if not self.rejected:
                raise no_rows(self.source)
            total = sum(one.count for one in self.rejected.values())
            reason, most = max(self.rejected.items(), key=lambda pair: pair[1].count)
            raise DataError(
                f"{self.source}: none of {counted(total, 'row')} can be used, most often: {reason}: {most.first}",
                hint=most.hint
                or "the page 'Step labels and chats from elsewhere' of the documentation lists the known layouts",
            )


def text_of(row: Row, column: str, reason: str) -> str:
    """A field that must hold text. Raises `Unusable` if it does not."""
    value = row.values.get(column)
    if not isinstance(value, str) or not value.strip():
        raise Unusable(reason, f"field '{column}' holds no text")
    return writable(value, f"field '{column}'")


def writable(text: str, what: str) -> str:
    """The text itself. Raises `Unusable` if no file can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unusable("not_unicode", f"{what} holds half of a surrogate pair") from error
    return text
