"""Key-value storage in slots: one row a sequence, preallocated, written in place.

transformers' dynamic cache concatenates the whole cache at every token, and pads every row to the
longest. Here a token's keys and values are written at the row's own position.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from genprm.engines._local.attention import Plan


def round_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `value`."""
    return -(-value // step) * step


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, each of shape [slots, heads, capacity, width]."""

    supports_early_init = False

    def __init__(self, slots: int, capacity: int, plan: Plan) -> None:
        super().__init__()
        self._slots = slots
        self._capacity = capacity
        self._plan = plan
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate once the model's own tensors tell heads, width, type and device."""
        self.keys = self._empty(key_states)
        self.values = self._empty(value_states)
        self.is_initialized = True

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(self._slots, like.shape[1], self._capacity, like.shape[3])

    def states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values; they exist after the first forward pass."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def grow(self, capacity: int) -> None:
        """Make room for longer rows, keeping what is there."""
        old = self._capacity
        self._capacity = capacity
        if self.keys is None or self.values is None:
            return
        keys, values = self._empty(self.keys), self._empty(self.values)
        keys[:, :, :old] = self.keys
        values[:, :, :old] = self.values
        self.keys, self.values = keys, values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens' states and return what attention is to read."""
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        keys, values = self.states()
        plan = self._plan
        if plan.rows is None:
            count = key_states.shape[0]
            rows = torch.arange(count, device=key_states.device)
            keys[rows, :, plan.positions[:, 0]] = key_states[:, :, 0]
            values[rows, :, plan.positions[:, 0]] = value_states[:, :, 0]
            if plan.groups:
                return keys, values
            return keys[:count, :, : plan.length], values[:count, :, : plan.length]
        keys[plan.rows[:, None], :, plan.positions] = key_states.transpose(1, 2)
        values[plan.rows[:, None], :, plan.positions] = value_states.transpose(1, 2)
        return keys[plan.rows, :, : plan.length], values[plan.rows, :, : plan.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys; the engine gives its masks explicitly."""
        return self._plan.length, 0

    def get_seq_length(self) -> int:
        """Rows differ in length; position ids are given explicitly."""
        return 0

    def get_max_length(self) -> int:
        """Positions a slot has room for."""
        return self._capacity


class SlotCache(Cache):  # type: ignore[misc]
    """All layers' slots, and the operations on whole rows."""

    def __init__(self, layers: int, slots: int, plan: Plan) -> None:
        self.capacity = 0
        self.slot_layers = [SlotLayer(slots, 0, plan) for _ in range(layers)]
        super().__init__(layers=list(self.slot_layers))

    def grow(self, capacity: int) -> None:
        """Make room for rows of `capacity` tokens."""
        for layer in self.slot_layers:
            layer.grow(capacity)
        self.capacity = capacity

    def copy_row(self, source: int, targets: list[int], length: int) -> None:
        """Copy the first `length` positions of a slot to other slots."""
        if not length:
            return
        for layer in self.slot_layers:
            for states in layer.states():
                states[targets, :, :length] = states[source, :, :length]

    def save(self, slot: int, length: int) -> list[torch.Tensor]:
        """A copy of the first `length` positions of a slot: keys and values of each layer in turn."""
        return [states[slot, :, :length].clone() for layer in self.slot_layers for states in layer.states()]

    def restore(self, slot: int, saved: list[torch.Tensor], length: int) -> None:
        """Put the first `length` positions of a saved row into a slot."""
        parts = iter(saved)
        for layer in self.slot_layers:
            for states in layer.states():
                states[slot, :, :length] = next(parts)[:, :length]


def causal_mask(positions: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask [r, 1, t, length]: each token sees the positions up to its own.

    Args:
        positions: position of each new token in its slot, shape [r, t].
    """
    keys = torch.arange(length, device=positions.device)
    hidden = keys[None, None, None, :] > positions[:, None, :, None]
    mask = torch.zeros(hidden.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min)
