"""Generated tokens with their log-probabilities, and where they stand in the text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import overload

Alternatives = tuple[tuple[str, float], ...]
"""(text, log-probability) of the most likely tokens at a place, best first."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One generated token: its text, its log-probability, and the top alternatives.

    A log-probability is at most 0; minus infinity is probability 0, and NaN one that the engine did not give.

    Attributes:
        offset: character offset of the token's start in the completion's text.
        top: (text, log-probability) of the most likely tokens here, best first behind unknown ones. Different
            tokens may have equal texts.
    """

    text: str
    logprob: float
    offset: int
    top: Alternatives = ()


class LateTokens(Sequence[TokenLogprob]):
    """Tokens that are read from an answer when they are looked at.

    A verifier looks at one token of an answer, of which a server may send thousands of alternatives.

    Args:
        text: the completion's.
        read: gives the texts of the tokens, and what reads the log-probability and the alternatives of one.
    """

    def __init__(
        self, text: str, read: Callable[[], tuple[list[str], Callable[[int], tuple[float, Alternatives]]]]
    ) -> None:
        self._text = text
        self._read = read

    @cached_property
    def _found(self) -> tuple[list[str], Callable[[int], tuple[float, Alternatives]]]:
        return self._read()

    @cached_property
    def offsets(self) -> list[int]:
        """Where each token starts."""
        return find_offsets(self._found[0], self._text)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> TokenLogprob: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[TokenLogprob, ...]: ...

    def __getitem__(self, index: int | slice) -> TokenLogprob | tuple[TokenLogprob, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(len(self))[index])
        number = range(len(self))[index]
        names, read = self._found
        logprob, top = read(number)
        return TokenLogprob(names[number], logprob, self.offsets[number], top)

    def __iter__(self) -> Iterator[TokenLogprob]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def token_at(tokens: Sequence[TokenLogprob], position: int) -> TokenLogprob | None:
    """The token that holds a character of the text, by its offset; None if none does."""
    offsets = tokens.offsets if isinstance(tokens, LateTokens) else [token.offset for token in tokens]
    # Offsets never fall, so the last token that starts here or before holds the position, or none does.
    number = bisect_right(offsets, position) - 1
    if number < 0:
        return None
    token = tokens[number]
    return token if position < token.offset + len(token.text) else None


def find_offsets(tokens: Sequence[str], text: str) -> list[int]:
    """Where each token starts in `text`; shorter than `tokens` if the last ones start after its end.

    Token texts do not always add up to the text: half a character reads as U+FFFD in a token and as
    nothing in the text, and special tokens may be missing. So tokens are found again one by one.
    """
    end = len(text)
    if "".join(tokens).startswith(text):
        starts = list(accumulate(map(len, tokens), initial=0))
        return starts[: min(bisect_left(starts, end), len(tokens))]
    offsets = []
    at = 0
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
