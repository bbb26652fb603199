"""Log-probabilities in the formats of servers, read as late as possible.

    legacy lists      {"tokens": [str], "token_logprobs": [number], "top_logprobs": [{str: number}]}
    objects           {"content": [{"token": str, "logprob": number, "top_logprobs": [{"token", "logprob"}]}]}

llama.cpp's own endpoint sends the list of objects alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from genprm.engines._common.tokens import best_first
from genprm.engines._http.wire import Unread, read_late
from genprm.engines.tokens import Alternatives, LateTokens

# Rounding lifts a certain token's log-probability a little above 0; more than this is something else.
_ROUNDING = 0.01
# Below this a whole number may be too long for a float; exp() of it is 0 either way.
_LEAST = -(10**9)
Reader = Callable[[int], tuple[Any, Any]]
"""Gives the log-probability of a token and its alternatives as they came: an object of numbers, a list of objects, or
anything."""


class RawTokens:
    """What an answer holds about its tokens.

    Args:
        table: the `logprobs` of a choice or the list of llama.cpp, read or not.
        most: alternatives to keep; servers add the sampled token to those that were asked for.
    """

    def __init__(self, table: Any, most: int) -> None:
        self._table = table
        self._most = most

    @property
    def count(self) -> int:
        """How many tokens there are, those without a text included."""
        return len(self._opened()[0])

    def along(self, text: str) -> LateTokens:
        """The tokens of a completion's text."""

        def read() -> tuple[list[str], Callable[[int], tuple[float, Alternatives]]]:
            names, reader = self._opened()

            def one(index: int) -> tuple[float, Alternatives]:
                number, top = reader(index)
                return logprob(number), _alternatives(read_late(top))[: self._most]

            return _texts(names), one

        return LateTokens(text, read)

    def _opened(self) -> tuple[list[Any], Reader]:
        return _open(self._table.read() if isinstance(self._table, Unread) else self._table)


def _open(table: Any) -> tuple[list[Any], Reader]:
    """The texts of the tokens, in either format, and how to read the rest; no texts if there is nothing to read."""
    if isinstance(table, dict) and table.get("content") is not None:
        table = table["content"]
    if isinstance(table, list):
        return _open_objects(table)
    if not isinstance(table, dict):
        return [], _nothing
    names, values, tops = table.get("tokens"), table.get("token_logprobs"), table.get("top_logprobs")
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        return [], _nothing
    alternatives = tops if isinstance(tops, list) and len(tops) == len(names) else [None] * len(names)
    return names, lambda index: (values[index], alternatives[index])


def _open_objects(entries: list[Any]) -> tuple[list[Any], Reader]:
    if not all(isinstance(entry, dict) for entry in entries):
        return [], _nothing
    names = [entry.get("token") for entry in entries]
    return names, lambda index: (entries[index].get("logprob"), entries[index].get("top_logprobs"))


def _nothing(index: int) -> tuple[Any, Any]:
    raise IndexError(index)


def logprob(value: Any) -> float:
    """A log-probability: minus infinity is probability 0, and what can be none is unknown (NaN)."""
    if type(value) is not float:
        if type(value) is not int:
            return math.nan
        value = float(min(max(value, _LEAST), 1))
    return value if value <= _ROUNDING else math.nan


def _alternatives(top: Any) -> Alternatives:
    if isinstance(top, dict):
        if "".join(top).isascii() and all(
            type(number) is float and number <= 0.0 for number in top.values()
        ):
            return tuple(sorted(top.items(), key=itemgetter(1), reverse=True))  # nothing to be mended
        return _ranked(top.items())
    if isinstance(top, list):
        # A dictionary could not hold two tokens with equal texts.
        return _ranked((one.get("token"), one.get("logprob")) for one in top if isinstance(one, dict))
    return ()


def _ranked(pairs: Iterable[tuple[Any, Any]]) -> Alternatives:
    return best_first((_name(text), logprob(number)) for text, number in pairs)


def _texts(names: list[Any]) -> list[str]:
    try:
        if "".join(names).isascii():
            return names
    except TypeError:
        pass  # not all of them are texts
    return [_name(name) for name in names]


def _name(text: Any) -> str:
    return whole(text) if isinstance(text, str) else ""


def whole(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which JSON can escape and no file can hold."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
