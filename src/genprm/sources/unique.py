"""The promise that ids are unique, at 16 to 32 bytes per id, 48 for the moment in which the set grows.

The tables of hashes that it needs serve others too: they are small for what they hold, and never touch a disk.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterator
from typing import TypeVar

from genprm.errors import DataError

T = TypeVar("T")
Placed = Iterator[tuple[str, str, T]]
"""(id, place, item) of every row."""


def with_unique_ids(rows: Callable[[], Placed[T]], *, again: bool) -> Iterator[T]:
    """The items of `rows()`, as long as their ids differ.

    Only hashes of the ids are kept. Where two meet, the rows are read a second time to find the earlier place.

    Args:
        rows: starts the rows from the first.
        again: whether it may be called twice.

    Raises:
        DataError: an id comes a second time; the message names both places, or the second if rows cannot be
            read again.
    """
    seen = HashSet()
    for number, (identifier, place, item) in enumerate(rows()):
        if not seen.add(hash_of(identifier)):
            earlier = _place_of(identifier, itertools.islice(rows(), number)) if again else None
            # Two ids may share a hash, which only a second look tells.
            if earlier is not None or not again:
                where = f" at {earlier}" if earlier is not None else ""
                raise DataError(
                    f"{place}: the id '{identifier}' was already used{where}",
                    hint="ids must be unique; a row without one gets it from its content: remove repeated rows "
                    "(of labelled solutions 'genprm import FILE -o labelled.jsonl' leaves them out)",
                )
        yield item


def _place_of(identifier: str, rows: Placed[T]) -> str | None:
    return next((place for other, place, _ in rows if other == identifier), None)


def hash_of(identifier: str) -> int:
    """64 bits of an id."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "big")


class HashSet:
    """A set of 64-bit hashes in one array: open addressing, at most half full, 0 for a free slot."""

    def __init__(self) -> None:
        self._slots = array("Q", [0]) * 1024
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: int) -> bool:
        """Add a hash; False if it was there. The hash 0 counts as 1."""
        value = value or 1
        at = self._slot(value)
        if self._slots[at]:
            return False
        self._slots[at] = value
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def _slot(self, value: int) -> int:
        """Where a hash is, or the free slot where it belongs."""
        slots, mask = self._slots, len(self._slots) - 1
        at = value & mask
        while slots[at] and slots[at] != value:
            at = (at + 1) & mask
        return at

    def _grow(self) -> None:
        old, self._slots = self._slots, array("Q", [0]) * (2 * len(self._slots))
        for value in old:
            if value:
                self._slots[self._slot(value)] = value


class FirstSeen(HashSet):
    """A `HashSet` that also knows with which number, below 2**32, each hash came first: 24 to 48 bytes per hash."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = array("I", [0]) * len(self._slots)

    def number(self, value: int) -> int | None:
        """With which number this hash came first; None if it was never added."""
        at = self._slot(value or 1)
        return self._numbers[at] if self._slots[at] else None

    def remember(self, value: int, number: int) -> None:
        """Add a hash with its number, unless it is there."""
        if self.add(value):
            self._numbers[self._slot(value or 1)] = number

    def _grow(self) -> None:
        old = [(value, self._numbers[at]) for at, value in enumerate(self._slots) if value]
        self._numbers = self._numbers * 2
        super()._grow()
        for value, number in old:
            self._numbers[self._slot(value)] = number
