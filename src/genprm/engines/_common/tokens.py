"""Log-probabilities by token, brought to offsets in the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from genprm.engines.base import TokenLogprob

Alternatives = tuple[tuple[str, float], ...]
RawToken = tuple[str, float, Alternatives]
"""A token's text, its log-probability, and the most likely tokens there, best first."""


def best_first(pairs: Iterable[tuple[str, float]]) -> Alternatives:
    """Alternatives in order of their log-probability."""
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))


def align(tokens: Sequence[RawToken], text: str, most: int) -> tuple[TokenLogprob, ...]:
    """Give tokens their character offsets in `text`, and drop those that start after its end.

    Token texts do not always add up to the text: half a character reads as U+FFFD in a token and as
    nothing in the text, and special tokens may be missing. So tokens are found again one by one.

    Args:
        most: alternatives to keep; some engines add the sampled token to those that were asked for.
    """
    found = []
    at = 0
    for token, logprob, top in tokens:
        offset = at
        if text.startswith(token, at):
            at += len(token)
        elif "\ufffd" not in token:
            near = text.find(token, at, at + len(token) + 8)
            if near >= 0:
                offset, at = near, near + len(token)
            elif text[at:] and token.startswith(text[at:]):
                # The stop string ended inside this token, and the text was cut there.
                at = len(text)
        if offset >= len(text):
            break
        found.append(TokenLogprob(token, logprob, offset, top[:most]))
    return tuple(found)
