"""Stop strings, matched the same way by every engine."""

from __future__ import annotations

from collections.abc import Sequence


def find_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """The stop string that a token-by-token generation of `text` would have met first.

    Args:
        text: generated text.
        stops: stop strings; empty ones never match.

    Returns:
        (end, stop) where `text[:end]` is what remains, the stop string included; None without a match.
        Of matches that end at the same character the longest one is named.
    """
    best: tuple[int, str] | None = None
    for stop in stops:
        if not stop:
            continue
        at = text.find(stop)
        if at < 0:
            continue
        end = at + len(stop)
        if best is None or end < best[0] or (end == best[0] and len(stop) > len(best[1])):
            best = (end, stop)
    return best
