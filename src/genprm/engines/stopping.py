"""Stop strings, matched the same way by every engine."""

from __future__ import annotations

from collections.abc import Sequence


def find_stop(text: str, stops: Sequence[str], start: int = 0) -> tuple[int, str] | None:
    """The stop string that a token-by-token generation of `text` would have met first.

    Args:
        text: generated text.
        stops: stop strings; empty ones never match.
        start: matches that begin before this character are not looked for.

    Returns:
        (end, stop) where `text[:end]` is what remains, the stop string included; None without a match.
        Of matches that end at the same character the longest one is named.
    """
    best: tuple[int, str] | None = None
    for stop in stops:
        if not stop:
            continue
        at = text.find(stop, max(start, 0))
        if at < 0:
            continue
        end = at + len(stop)
        if best is None or end < best[0] or (end == best[0] and len(stop) > len(best[1])):
            best = (end, stop)
    return best


class StopWatch:
    """Looks for stop strings in a text that grows by pieces, at a cost that does not grow with the text."""

    __slots__ = ("_longest", "_stops")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max((len(stop) for stop in self._stops), default=0)

    def check(self, text: str, added: int) -> tuple[int, str] | None:
        """Look at a text whose last `added` characters are new; same result as `find_stop`."""
        if not self._stops or not added:
            return None
        return find_stop(text, self._stops, len(text) - added - self._longest + 1)
