"""Where the steps of a response stand among its tokens, for any tokenizer.

A trainer learns from token ids, a verifier judges steps of a text. A text can be tokenized in many ways, and a policy
samples any of them, so the ids are never made anew: each token's place in the text is found for the ids as they are.

With the response's text x and its ids t_1 ... t_n, let e_k be the number of characters of x that are complete after
t_1 ... t_k. A token completes the characters from e_(k-1) to e_k, which may be none: a byte of an emoji, a special token
that decoding leaves out. A step whose span in x ends at character b ends with token

    k = min {k : e_k >= b}

and the last step ends with the last token, so that the end of the turn belongs to it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from genprm.errors import DataError

Decode = Callable[[list[int]], str]
"""Token ids to text."""

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


def decoder(tokenizer: Any) -> Decode:
    """How a tokenizer decodes a response: without special tokens, and without changing spaces.

    Args:
        tokenizer: of transformers or tokenizers, or anything with `decode(ids)`, or such a function itself.
    """
    if not hasattr(tokenizer, "decode"):
        if callable(tokenizer):
            return lambda ids: str(tokenizer(ids))
        raise DataError(
            f"a {type(tokenizer).__name__} has no decode", hint="Give a tokenizer, or its decode."
        )
    options: dict[str, Any] = {}
    if hasattr(tokenizer, "all_special_ids"):
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    elif hasattr(tokenizer, "token_to_id"):
        options = {"skip_special_tokens": True}
    return lambda ids: str(tokenizer.decode(ids, **options))


def token_ends(tokenizer: Any, ids: Sequence[int], text: str | None = None) -> tuple[int, ...]:
    """e_1 ... e_n: how many characters of the text are complete after each token; never falling.

    Args:
        tokenizer: see `decoder`. Offsets are used if it has them and would tokenize the text into just these ids; the
            ids are decoded one after another otherwise.
        ids: the response's tokens, special tokens included, padding not.
        text: the text that they stand for, unless it is what they decode to. It may lack white space and more at the
            end; it must begin like the decoded text.

    Raises:
        DataError: the ids do not decode to the text.
    """
    tokens = [int(token) for token in ids]
    decode = decoder(tokenizer)
    decoded = decode(tokens)
    if text is None:
        text = decoded
    if not decoded.startswith(text.rstrip()):
        raise DataError(
            "a response's tokens do not decode to its text",
            hint="Give the tokens of the response alone, and the text that they were decoded to.",
        )
    ends = _ends_by_offsets(tokenizer, tokens, decoded)
    if ends is None:
        ends = _ends_by_decoding(decode, tokens, decoded)
    return tuple(min(end, len(text)) for end in ends)


def step_ends(ends: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The index of the token that ends each step; steps may share one. See the module.

    Args:
        ends: of `token_ends`.
        spans: of the steps in the text, in characters and in order (`genprm.text.spans.step_spans`).

    Raises:
        DataError: a step ends behind the last token, or there are steps and no tokens.
    """
    found = [bisect_left(ends, end) for _, end in spans]
    if found and found[-1] >= len(ends):
        raise DataError("a step ends behind the last token of its response")
    return (*found[:-1], len(ends) - 1) if found else ()


def _ends_by_offsets(tokenizer: Any, ids: list[int], text: str) -> list[int] | None:
    """From the offsets of the text's own tokenization; None if there are none, or if it is another one."""
    offsets = _offsets(tokenizer, text)
    if offsets is None or [token for token, _ in offsets] != ids:
        return None
    ends = [end for _, (_, end) in offsets]
    for index in range(len(ends) - 2, -1, -1):
        # The bytes of one character all have its span; the last of them completes it.
        start = offsets[index + 1][1][0]
        ends[index] = min(ends[index], max(start, 0), ends[index + 1])
    return ends


def _offsets(tokenizer: Any, text: str) -> list[tuple[int, tuple[int, int]]] | None:
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(zip(found["input_ids"], found["offset_mapping"], strict=True))
    if hasattr(tokenizer, "token_to_id") and hasattr(tokenizer, "encode"):
        coded = tokenizer.encode(text, add_special_tokens=False)
        return list(zip(coded.ids, coded.offsets, strict=True))
    return None


def _ends_by_decoding(decode: Decode, ids: list[int], text: str) -> list[int]:
    """By decoding token after token with a little context, or with all tokens before it if a little is not enough."""
    ends = None if _INCOMPLETE in text else _ends_in_windows(decode, ids, text)
    return _ends_of_prefixes(decode, ids, text) if ends is None else ends


def _ends_in_windows(decode: Decode, ids: list[int], text: str) -> list[int] | None:
    """Linear in the number of tokens; None if the pieces do not join to the text."""
    ends: list[int] = []
    # Characters that are out, the window's first token, and the first token whose text is not out.
    done, start, read = 0, 0, 0
    for stop in range(1, len(ids) + 1):
        known, now = decode(ids[start:read]), decode(ids[start:stop])
        piece = now[len(known) :] if now.startswith(known) else ""
        if now.endswith(_INCOMPLETE):  # a character has begun; what is before it may be complete
            ends.append(max(done + _shared(piece, text[done : done + len(piece)]), ends[-1] if ends else 0))
            continue
        if not (now.startswith(known) and text.startswith(piece, done)):
            return None
        done += len(piece)
        start, read = (read, stop) if piece else (start, stop)
        ends.append(done)
    return ends if done == len(text) else None


def _ends_of_prefixes(decode: Decode, ids: list[int], text: str) -> list[int]:
    """By decoding all tokens before each: quadratic in the number of tokens."""
    ends: list[int] = []
    now = decode(ids[:1])
    for stop in range(1, len(ids) + 1):
        after = decode(ids[: stop + 1])
        count = _shared(now, text)
        if now == after and stop < len(ids) and count == len(now) and now.endswith(_INCOMPLETE):
            count -= 1  # the next token belongs to this character, which is one in the text too
        ends.append(max(count, ends[-1] if ends else 0))
        now = after
    return ends


def _shared(text: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    if other.startswith(text):
        return len(text)
    return next(
        (index for index, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(other)
    )
