"""Log-probabilities by token, as engines get them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from genprm.engines.tokens import Alternatives, TokenLogprob, find_offsets

RawToken = tuple[str, float, Alternatives]
"""A token's text, its log-probability, and the most likely tokens there, best first."""


def best_first(pairs: Iterable[tuple[str, float]]) -> Alternatives:
    """Alternatives in order of their log-probability, unknown ones (NaN) first: no cut may hide them."""
    return tuple(sorted(pairs, key=_rank))


def _rank(pair: tuple[str, float]) -> float:
    return -math.inf if math.isnan(pair[1]) else -pair[1]


def align(tokens: Sequence[RawToken], text: str, most: int) -> tuple[TokenLogprob, ...]:
    """Give tokens their character offsets in `text`, and drop those that start after its end.

    Args:
        most: alternatives to keep; some engines add the sampled token to those that were asked for.
    """
    offsets = find_offsets([token for token, _, _ in tokens], text)
    return tuple(
        TokenLogprob(token, logprob, offset, top[:most])
        for offset, (token, logprob, top) in zip(offsets, tokens, strict=False)
    )
