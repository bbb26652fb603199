"""Log-probabilities in the formats of servers, read as late as possible.

    legacy lists      {"tokens": [str], "token_logprobs": [number], "top_logprobs": [{str: number}]}
    objects           {"content": [{"token": str, "logprob": number, "top_logprobs": [{"token", "logprob"}]}]}

llama.cpp's own endpoint sends the list of objects alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from genprm.engines._common.tokens import Alternatives, LateTokens, best_first

# Rounding lifts a certain token's log-probability a little above 0; more than this is something else.
_ROUNDING = 0.01


class RawTokens:
    """What an answer holds about its tokens.

    Args:
        texts: of the tokens.
        numbers: their log-probabilities, as they came.
        tops: the alternatives of each, as they came: an object of numbers, a list of objects, or anything.
    """

    def __init__(self, texts: list[str], numbers: list[Any], tops: list[Any]) -> None:
        self._texts = texts
        self._numbers = numbers
        self._tops = tops

    def along(self, text: str, most: int) -> LateTokens:
        """The tokens of a completion's text, with so many alternatives at most."""

        def read(number: int) -> tuple[float, Alternatives]:
            return logprob(self._numbers[number]), _alternatives(self._tops[number])[:most]

        return LateTokens(self._texts, text, read)


def read_logprobs(table: Any) -> RawTokens | None:
    """The `logprobs` of a choice, in either format; None if there are none."""
    if not isinstance(table, dict):
        return None
    if table.get("content") is not None:
        return read_llama_logprobs(table["content"])
    names, values, tops = table.get("tokens"), table.get("token_logprobs"), table.get("top_logprobs")
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        return None
    if not isinstance(tops, list) or len(tops) != len(names):
        tops = [None] * len(names)
    return RawTokens([_name(name) for name in names], values, tops) if names else None


def read_llama_logprobs(entries: Any) -> RawTokens | None:
    """A list of one object per token; None if it is none."""
    if not isinstance(entries, list) or not entries or not all(isinstance(one, dict) for one in entries):
        return None
    return RawTokens(
        [_name(entry.get("token")) for entry in entries],
        [entry.get("logprob") for entry in entries],
        [entry.get("top_logprobs") for entry in entries],
    )


def logprob(value: Any) -> float:
    """A log-probability: minus infinity is probability 0, and what can be none is unknown (NaN)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if number <= _ROUNDING else math.nan


def _alternatives(top: Any) -> Alternatives:
    if isinstance(top, dict):
        return _ranked(top.items())
    if isinstance(top, list):
        # A dictionary could not hold two tokens with equal texts.
        return _ranked((one.get("token"), one.get("logprob")) for one in top if isinstance(one, dict))
    return ()


def _ranked(pairs: Iterable[tuple[Any, Any]]) -> Alternatives:
    return best_first((_name(text), logprob(number)) for text, number in pairs)


def _name(text: Any) -> str:
    return whole(text) if isinstance(text, str) else ""


def whole(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which JSON can escape and no file can hold."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
