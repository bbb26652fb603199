"""Token ids to text: the bytes of every token, and which tokens can complete a stop string."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _byte_level_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level tokenizers use for the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in plain}
    rest = (byte for byte in range(256) if byte not in set(plain))
    table.update({chr(256 + index): byte for index, byte in enumerate(rest)})
    return table


class Vocabulary:
    """Texts of a tokenizer's tokens as they read in the middle of a text.

    Special tokens have no text, as in the answers of the usual servers.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        self._pieces = _token_bytes(tokenizer, size)
        self._suspects: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    def piece(self, token: int) -> bytes:
        """The bytes of one token; they may be part of a character."""
        return self._pieces[token] if token < len(self._pieces) else b""

    def text(self, ids: Sequence[int]) -> str:
        """The text of consecutive tokens; broken characters read as U+FFFD."""
        return b"".join(self._pieces[token] for token in ids).decode("utf-8", errors="replace")

    def suspects(self, stops: tuple[str, ...]) -> NDArray[np.bool_]:
        """For each token id, whether its text contains the last byte of a stop string.

        Only such a token can complete a match, so the text of a row is looked at when it comes up
        and not after every token.
        """
        found = self._suspects.get(stops)
        if found is None:
            lasts = {stop.encode("utf-8")[-1] for stop in stops if stop}
            found = np.fromiter(
                (not lasts.isdisjoint(piece) for piece in self._pieces), bool, len(self._pieces)
            )
            self._suspects[stops] = found
        return found


def _token_bytes(tokenizer: Any, size: int) -> list[bytes]:
    """The bytes of tokens 0..size-1; ids that the tokenizer does not know have none."""
    names: list[str | None] = [None] * size
    for name, token in tokenizer.get_vocab().items():
        if token < size:
            names[token] = name
    added = {token: entry.content for token, entry in tokenizer.added_tokens_decoder.items()}
    special = set(tokenizer.all_special_ids)
    alphabet = _byte_level_alphabet() if _is_byte_level(tokenizer) else None
    anchor = None if alphabet is not None else _anchor(tokenizer, added)
    pieces = []
    for token, name in enumerate(names):
        if name is None or token in special:
            pieces.append(b"")
        elif token in added:
            pieces.append(added[token].encode("utf-8"))
        elif alphabet is not None:
            pieces.append(bytes(alphabet[char] for char in name if char in alphabet))
        else:
            pieces.append(_piece_by_decoding(tokenizer, token, name, anchor))
    return pieces


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    return '"ByteLevel"' in json.dumps(json.loads(backend.to_str()).get("decoder"))


def _anchor(tokenizer: Any, added: dict[int, str]) -> list[int]:
    """A token with a text of its own, put in front of others so that they decode as inside a text."""
    for token in tokenizer.get_vocab().values():
        if (
            token not in added
            and tokenizer.decode([token], clean_up_tokenization_spaces=False).strip().isalnum()
        ):
            return [token]
    return []


def _piece_by_decoding(tokenizer: Any, token: int, name: str, anchor: list[int] | None) -> bytes:
    """What a token adds to a decoded text; a byte token `<0xNN>` is that byte."""
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    before = anchor or []
    base: str = tokenizer.decode(before, clean_up_tokenization_spaces=False)
    whole: str = tokenizer.decode([*before, token], clean_up_tokenization_spaces=False)
    return whole[len(base) :].encode("utf-8")
