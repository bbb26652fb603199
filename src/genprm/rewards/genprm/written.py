"""Which characters of a verifier's turn the model wrote itself.

The rest was forced (the openings of a prompt profile, the closing of a turn that was cut) or printed by code. Only what
the model chose can be reinforced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from genprm.engines.base import Completion
from genprm.text.transcript import output_spans


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """An assistant turn as the history has it.

    Attributes:
        text: all of it.
        own: (start, end) of what the model wrote, in order, without overlaps.
        before: if the judgement had to be forced, the turn until then, with what was cut off for it.
    """

    text: str
    own: tuple[tuple[int, int], ...]
    before: WrittenTurn | None = None


def own_spans(text: str, pieces: Sequence[tuple[int, Completion]]) -> tuple[tuple[int, int], ...]:
    """The spans of a turn that stand as they were generated.

    Args:
        text: the turn as it ended.
        pieces: (start in the text, completion), in order of generation. What was cut off later, and what a later piece
            or an executed output took the place of, is left out.
    """
    spans: list[tuple[int, int]] = []
    for start, completion in pieces:
        spans = [(first, min(last, start)) for first, last in spans if first < start]
        spans.append((start, start + _alike(completion.text, text[start:])))
    return tuple(_without(spans, output_spans(text)))


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    if other.startswith(one):
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _without(
    spans: Iterable[tuple[int, int]], holes: Sequence[tuple[int, int]]
) -> Iterable[tuple[int, int]]:
    """The spans without the holes; what is empty is left out."""
    for start, end in spans:
        position = start
        for first, last in holes:
            if first < end and last > position:
                if position < first:
                    yield position, first
                position = max(position, last)
        if position < end:
            yield position, end
