"""Log-probabilities by token, brought to offsets in the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from genprm.engines.base import TokenLogprob

Alternatives = tuple[tuple[str, float], ...]
RawToken = tuple[str, float, Alternatives]
"""A token's text, its log-probability, and the most likely tokens there, best first."""


def best_first(pairs: Iterable[tuple[str, float]]) -> Alternatives:
    """Alternatives in order of their log-probability, unknown ones (NaN) last."""
    return tuple(sorted(pairs, key=_rank))


def _rank(pair: tuple[str, float]) -> float:
    return math.inf if math.isnan(pair[1]) else -pair[1]


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


def find_offsets(tokens: Sequence[str], text: str) -> list[int]:
    """Where each token starts in `text`; shorter than `tokens` if the last ones start after its end.

    Token texts do not always add up to the text: half a character reads as U+FFFD in a token and as
    nothing in the text, and special tokens may be missing. So tokens are found again one by one.
    """
    offsets = []
    at = 0
    end = len(text)
    for token in tokens:
        offset = at
        if text.startswith(token, at):
            at += len(token)
        elif "\ufffd" not in token:
            near = text.find(token, at, at + len(token) + 8)
            if near >= 0:
                offset, at = near, near + len(token)
            elif at < end and token.startswith(text[at:]):
                # The stop string ended inside this token, and the text was cut there.
                at = end
        if offset >= end:
            break
        offsets.append(offset)
    return offsets


class LateTokens(Sequence[TokenLogprob]):
    """Tokens that are read from an answer when they are looked at.

    A verifier looks at one token of an answer, of which a server may send thousands of alternatives.

    Args:
        tokens: the texts.
        text: the completion's.
        read: gives the log-probability and the alternatives of a token, best first.
    """

    def __init__(
        self, tokens: Sequence[str], text: str, read: Callable[[int], tuple[float, Alternatives]]
    ) -> None:
        self._tokens = tokens
        self._text = text
        self._read = read
        self._offsets: list[int] | None = None

    def _found(self) -> list[int]:
        if self._offsets is None:
            self._offsets = find_offsets(self._tokens, self._text)
        return self._offsets

    def __len__(self) -> int:
        return len(self._found())

    @overload
    def __getitem__(self, index: int) -> TokenLogprob: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[TokenLogprob, ...]: ...

    def __getitem__(self, index: int | slice) -> TokenLogprob | tuple[TokenLogprob, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(len(self))[index])
        offset = self._found()[index]
        number = range(len(self))[index]
        logprob, top = self._read(number)
        return TokenLogprob(self._tokens[number], logprob, offset, top)

    def __iter__(self) -> Iterator[TokenLogprob]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))
