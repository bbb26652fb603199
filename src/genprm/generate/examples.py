"""Texts of what was dropped: a few for each reason, so that one can read what a model wrote instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from genprm.records import Dropped, Example
from genprm.text.transcript import truncate

EXAMPLE_CHARS = 4000
"""Of a text that are kept; the middle of a longer one is cut out."""


def examples_of(texts: Iterable[tuple[str, str]], keep: int) -> tuple[Example, ...]:
    """Examples of the first `keep` texts that are not empty, given as (id, text)."""
    found = ((identifier, text) for identifier, text in texts if text)
    return tuple(
        Example(id=identifier, text=truncate(text, EXAMPLE_CHARS))
        for identifier, text in islice(found, keep)
    )


def with_few_examples(rows: Sequence[Dropped], keep: int) -> tuple[Dropped, ...]:
    """The rows with the first `keep` examples of each reason alone."""
    kept: Counter[str] = Counter()
    found = []
    for row in rows:
        examples = row.examples[: max(keep - kept[row.reason], 0)]
        kept[row.reason] += len(examples)
        found.append(row if examples == row.examples else row.model_copy(update={"examples": examples}))
    return tuple(found)
