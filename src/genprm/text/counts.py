"""Counts in messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A count with its noun, which is given in the singular and makes its plural with an s: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"
