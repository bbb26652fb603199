"""Where the steps of a solution stand in its text."""

from __future__ import annotations

from collections.abc import Sequence


def step_spans(text: str, steps: Sequence[str]) -> tuple[tuple[int, int], ...]:
    r"""Start and end of each step in the text that `split_steps` made them from, as indices of characters (code points).

    Splitting reads `\r\n` and `\r` as one line break, so a step may be shorter than what its span covers.

    Raises:
        ValueError: a step is not in the text, or not before the one after it.
    """
    plain, places = _with_plain_breaks(text)
    spans, bound = [], len(plain)
    # From the end: a thought, which is no step, may hold the same lines before them.
    for step in reversed(steps):
        start = plain.rindex(step, 0, bound)
        end = start + len(step)
        spans.append((places[start], places[end - 1] + 1) if places else (start, end))
        bound = start
    return tuple(reversed(spans))


def _with_plain_breaks(text: str) -> tuple[str, list[int]]:
    """The text as splitting reads it and, if it differs, the place in the given text of each of its characters."""
    if "\r" not in text:
        return text, []
    kept = [
        (index, "\n" if character == "\r" else character)
        for index, character in enumerate(text)
        if not (character == "\r" and text[index + 1 : index + 2] == "\n")
    ]
    return "".join(character for _, character in kept), [index for index, _ in kept]
