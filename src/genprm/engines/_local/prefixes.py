"""Keys and values of finished sequences, kept for requests that continue them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_BLOCK = 16


@dataclass(slots=True)
class _Entry:
    ids: NDArray[np.int32]
    states: list[torch.Tensor]
    blocks: list[int]
    size: int


def _block_hashes(ids: NDArray[np.int32]) -> list[int]:
    """A hash for each whole block that stands for all tokens up to the block's end."""
    found = []
    chain = 0
    for start in range(0, len(ids) - _BLOCK + 1, _BLOCK):
        chain = hash((chain, ids[start : start + _BLOCK].tobytes()))
        found.append(chain)
    return found


class PrefixStore:
    """Least recently used sequences' states, found by their longest common prefix with a prompt.

    Args:
        limit_bytes: most memory that kept states may take; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._by_block: dict[int, int] = {}
        self._bytes = 0
        self._next = 0

    @property
    def enabled(self) -> bool:
        """Whether anything can be kept."""
        return self._limit > 0

    def add(self, ids: list[int], states: list[torch.Tensor]) -> None:
        """Keep the states of a token sequence; `states` are tensors of shape [heads, len(ids), width]."""
        tokens = np.asarray(ids, np.int32)
        blocks = _block_hashes(tokens)
        size = sum(part.numel() * part.element_size() for part in states)
        if not blocks or size > self._limit:
            return
        held = self._by_block.get(blocks[-1])
        if held is not None and np.array_equal(self._entries[held].ids, tokens):
            self._entries.move_to_end(held)
            return
        while self._bytes + size > self._limit:
            self._drop_oldest()
        number = self._next
        self._next += 1
        self._entries[number] = _Entry(tokens, states, blocks, size)
        self._bytes += size
        for block in blocks:
            self._by_block[block] = number

    def longest(self, ids: list[int], most: int) -> tuple[int, list[torch.Tensor]]:
        """(n, states) of a kept sequence that shares its first n <= `most` tokens; (0, []) without one."""
        tokens = np.asarray(ids[:most], np.int32)
        found: int | None = None
        chain = 0
        for start in range(0, len(tokens) - _BLOCK + 1, _BLOCK):
            chain = hash((chain, tokens[start : start + _BLOCK].tobytes()))
            number = self._by_block.get(chain)
            if number is None:
                break
            found = number
        if found is None:
            return 0, []
        entry = self._entries[found]
        self._entries.move_to_end(found)
        common = min(len(entry.ids), len(tokens))
        differ = np.flatnonzero(entry.ids[:common] != tokens[:common])
        return (int(differ[0]) if differ.size else common), entry.states

    def clear(self) -> None:
        """Forget everything that is kept."""
        self._entries.clear()
        self._by_block.clear()
        self._bytes = 0

    def _drop_oldest(self) -> None:
        number, entry = self._entries.popitem(last=False)
        self._bytes -= entry.size
        for block in entry.blocks:
            if self._by_block.get(block) == number:
                del self._by_block[block]
