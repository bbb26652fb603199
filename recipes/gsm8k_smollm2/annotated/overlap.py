"""Decontamination: problems that share a run of words with a benchmark's problems."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LENGTH = 13
"""Words of a shared run, as is usual for language models' training data."""

_WORD = re.compile(r"[a-z0-9]+")


class Benchmark:
    """The runs of words of a benchmark's problems; problems shorter than a run count whole.

    Args:
        texts: the benchmark's problems.
    """

    def __init__(self, texts: Iterable[str], length: int = LENGTH) -> None:
        self._length = length
        self._runs = {run for text in texts for run in _runs(text, length)}

    def overlaps(self, text: str) -> bool:
        """Whether a text shares a run with the benchmark."""
        return not self._runs.isdisjoint(_runs(text, self._length))


def _runs(text: str, length: int) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    for start in range(max(1, len(words) - length + 1)):
        yield tuple(words[start : start + length])
