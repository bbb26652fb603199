"""Prefixes that many rows share: kept once, beside the slots."""

from __future__ import annotations

import torch

from genprm.engines._local.attention import SharedPlan
from genprm.engines._local.slots import SlotCache, round_up

# Fewer rows than this are not worth a prefix of their own; more are spread over several, because all
# prefixes are padded to the one with the most rows.
FEWEST_ROWS = 6
MOST_ROWS = 32
_STEP = 32


class SharedPrefixes:
    """Up to `count` prefixes and the slots that read them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._names = [b""] * count
        self._lengths = [0] * count
        self._members: list[list[int]] = [[] for _ in range(count)]
        self._of_slot: dict[int, int] = {}
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._plan: SharedPlan | None = None
        self._planned_rows = -1

    def join(self, key: bytes, slots: list[int]) -> list[int]:
        """Let slots read a prefix that is already kept; returns those for which no place was left."""
        for index, members in enumerate(self._members):
            if members and self._names[index] == key:
                taken = slots[: MOST_ROWS - len(members)]
                members.extend(taken)
                self._of_slot.update(dict.fromkeys(taken, index))
                slots = slots[len(taken) :]
                self._planned_rows = -1
        return slots

    def reader(self, key: bytes) -> int | None:
        """A slot that reads the prefix `key`."""
        for index, members in enumerate(self._members):
            if members and self._names[index] == key:
                return members[0]
        return None

    def add(self, key: bytes, cache: SlotCache, source: int, length: int, slots: list[int]) -> bool:
        """Keep the first `length` positions of slot `source` for `slots`; False if there is none free."""
        free = next((index for index, members in enumerate(self._members) if not members), None)
        if free is None:
            return False
        self._reserve(cache, length)
        for index, layer in enumerate(cache.slot_layers):
            keys, values = layer.states()
            self._keys[index][free, :, :length] = keys[source, :, :length]
            self._values[index][free, :, :length] = values[source, :, :length]
        self._names[free] = key
        self._lengths[free] = length
        self._members[free] = list(slots)
        self._of_slot.update(dict.fromkeys(slots, free))
        self._planned_rows = -1
        return True

    def leave(self, slot: int) -> None:
        """A slot was released."""
        index = self._of_slot.pop(slot, None)
        if index is not None:
            self._members[index].remove(slot)
            self._planned_rows = -1

    def move(self, source: int, target: int) -> None:
        """A row moved from one slot to another."""
        index = self._of_slot.pop(source, None)
        if index is not None:
            members = self._members[index]
            members[members.index(source)] = target
            self._of_slot[target] = index
            self._planned_rows = -1

    def states(self, slot: int) -> list[torch.Tensor]:
        """Keys and values, layer by layer, of the prefix that a slot reads; empty if it has none."""
        index = self._of_slot.get(slot)
        if index is None:
            return []
        length = self._lengths[index]
        pairs = zip(self._keys, self._values, strict=True)
        return [states[index, :, :length] for pair in pairs for states in pair]

    def plan(self, rows: int, dtype: torch.dtype, device: torch.device) -> SharedPlan | None:
        """The plan for the slots 0..rows-1; made anew only after a change."""
        if not self._of_slot:
            return None
        if self._planned_rows != rows:
            self._plan = self._make_plan(rows, dtype, device)
            self._planned_rows = rows
        return self._plan

    def _make_plan(self, rows: int, dtype: torch.dtype, device: torch.device) -> SharedPlan:
        used = 1 + max(index for index, members in enumerate(self._members) if members)
        most = max(len(members) for members in self._members)
        live = [
            length if members else 0 for length, members in zip(self._lengths, self._members, strict=True)
        ]
        length = min(round_up(max(live), _STEP), self._keys[0].shape[2])
        members = torch.zeros(used, most, dtype=torch.long)
        place = torch.zeros(rows, dtype=torch.long)
        weight = torch.full((rows,), float("-inf"))
        for index in range(used):
            for column, slot in enumerate(self._members[index]):
                members[index, column] = slot
                place[slot] = index * most + column
                weight[slot] = 0.0
        hidden = torch.arange(length)[None, :] >= torch.tensor(live[:used])[:, None]
        mask = torch.zeros(used, 1, 1, length, dtype=dtype)
        mask.masked_fill_(hidden[:, None, None, :], torch.finfo(dtype).min)
        return SharedPlan(
            self._keys,
            self._values,
            length,
            mask.to(device),
            members.to(device),
            place.to(device),
            weight[:, None, None].to(device),
        )

    def _reserve(self, cache: SlotCache, length: int) -> None:
        """Room for prefixes of `length` positions."""
        capacity = self._keys[0].shape[2] if self._keys else 0
        if length <= capacity:
            return
        capacity = max(round_up(length, _STEP), capacity * 3 // 2)
        for old, index in ((self._keys, 0), (self._values, 1)):
            fresh = []
            for number, layer in enumerate(cache.slot_layers):
                like = layer.states()[index]
                made = like.new_zeros(self._count, like.shape[1], capacity, like.shape[3])
                if old:
                    made[:, :, : old[number].shape[2]] = old[number]
                fresh.append(made)
            old[:] = fresh
