"""How a word may be spelled by one token."""

from __future__ import annotations

_LEADS = ("", " ", "{")


def spellings(word: str) -> tuple[str, ...]:
    """The word itself, then with what may stand before it in one token, in each case."""
    cases = (word, word.lower(), word.upper())
    return tuple(dict.fromkeys(lead + case for lead in _LEADS for case in cases))
