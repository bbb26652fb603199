"""Counts in messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A count with its noun, which is given in the singular and makes its plural with an s: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def counted_tokens(count: int, uncounted: int) -> str:
    """Tokens, of which so many requests are not or not wholly among them: `2,000`, `at least 2,000`."""
    return f"at least {count:,}" if uncounted else f"{count:,}"
