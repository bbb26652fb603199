"""The model with its slots: computing prompts, and decoding one token in many rows."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genprm.aio import chunked
from genprm.engines._local.attention import Group, Plan, install
from genprm.engines._local.shared import SharedPrefixes
from genprm.engines._local.slots import SlotCache, causal_mask, round_up
from genprm.errors import EngineError

# Rows that attention reads together, and the step of the lengths that it reads.
GROUP = 16
LENGTH_STEP = 32
# Width of a prompt's pieces in deterministic decoding.
EXACT_WIDTH = 64
_PREFILL_TOKENS = 8192
# Prompts are computed together with those whose new tokens round up to the same multiple of this.
_WIDTH_STEP = 16
# The sequence by which rounding is tried out: its tokens, its turns, and the tokens decoded in each.
_TRIAL, _TRIAL_TURNS, _TRIAL_DECODED = 1024, 8, 16

Ints = NDArray[np.int64]


class Runner:
    """A model, its key-value slots and its shared prefixes.

    Attributes:
        cache: the slots.
        shared: None if the model's attention cannot read shared prefixes, or in deterministic mode.
        reusable: whether states computed once may stand for states computed again. In deterministic mode
            they must be equal bit by bit, whether they come from a prompt or from decoding.

    Args:
        single: the model runs in one thread, so that no product is divided among threads.
    """

    def __init__(
        self, model: Any, slots: int, max_context: int, *, deterministic: bool, single: bool
    ) -> None:
        self._model = model
        self._device = model.device
        self._dtype = model.dtype
        self._max_context = max_context
        # A GPU computes padding faster than the host starts more kernels.
        self._together = self._device.type == "cuda"
        self._plan = Plan(exact=deterministic)
        self._grouped = install(model)
        if deterministic and not (self._grouped and self._device.type == "cpu"):
            raise EngineError(
                f"deterministic decoding is not there for {model.config.model_type} on {self._device.type}",
                hint="it needs a Llama-like model on a CPU; switch `deterministic` off",
            )
        # transformers renames the argument: `cache` from 5.24 on.
        names = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._extra = {"slot_plan": self._plan} if self._grouped else {}
        layers = model.config.get_text_config().num_hidden_layers
        shareable = self._grouped and not deterministic
        self.shared = SharedPrefixes(max(4, slots // 8)) if shareable else None
        # The trial has a cache of its own: its long sequence would make every slot as long.
        self.cache, self.reusable = SlotCache(layers, min(GROUP, slots), self._plan), True
        self.reusable = not deterministic or (single and self._rounds_alike(min(GROUP, slots)))
        self.cache = SlotCache(layers, slots, self._plan)

    def decode(self, tokens: Ints, positions: Ints, bases: Ints) -> torch.Tensor:
        """Logits [rows, V] (float32) after one more token in each of the slots 0..rows-1.

        Args:
            tokens, positions: the tokens' ids and their positions in their sequences, shape [rows].
            bases: length of the shared prefix that each row reads, 0 without one.
        """
        places = positions - bases
        plan = self._plan
        plan.rows = None
        plan.length = min(round_up(int(places.max()) + 1, LENGTH_STEP), self.cache.capacity)
        plan.groups = self._groups(places) if self._grouped else []
        plan.shared = None
        if self.shared is not None:
            plan.shared = self.shared.plan(len(tokens), self._dtype, self._device)
        return self._forward(tokens[:, None], positions[:, None], places[:, None])

    def reserve(self, length: int) -> None:
        """Room in every slot for rows of `length` tokens, plus the padding of a prefill."""
        needed = round_up(length, LENGTH_STEP) + EXACT_WIDTH
        if needed > self.cache.capacity:
            most = round_up(self._max_context, LENGTH_STEP) + EXACT_WIDTH
            self.cache.grow(min(most, max(needed, self.cache.capacity * 3 // 2)))

    def prefill(self, fresh: list[tuple[int, list[int], int]]) -> None:
        """Compute the states of token sequences.

        Args:
            fresh: for each, its slot, its tokens, and how many of them the slot has already.
        """
        if not self.reusable:
            self._prefill_exactly(fresh)
            return
        fresh = sorted(fresh, key=lambda entry: len(entry[1]) - entry[2])
        while fresh:
            width = round_up(len(fresh[-1][1]) - fresh[-1][2], _WIDTH_STEP)
            alike = sum(self._together or len(ids) - start > width - _WIDTH_STEP for _, ids, start in fresh)
            count = min(alike, max(1, _PREFILL_TOKENS // width))
            batch, fresh = fresh[-count:], fresh[:-count]
            tokens = np.zeros((len(batch), width), np.int64)
            for row, (_, ids, start) in enumerate(batch):
                suffix = ids[start:]
                tokens[row, : len(suffix)] = suffix
            starts = np.asarray([start for _, _, start in batch])
            positions = starts[:, None] + np.arange(width)[None, :]
            # Padding lands on positions that decoding overwrites before it reads them.
            positions = np.minimum(positions, self.cache.capacity - 1)
            plan = self._plan
            plan.rows = torch.tensor([slot for slot, _, _ in batch], device=self._device)
            plan.length = min(round_up(int(positions.max()) + 1, LENGTH_STEP), self.cache.capacity)
            plan.groups, plan.shared = [], None
            self._forward(tokens, positions, positions)

    def _prefill_exactly(self, fresh: list[tuple[int, list[int], int]]) -> None:
        """The same in pieces of one width at fixed positions: a row's shapes depend on its own prompt alone."""
        start = 0
        plan = self._plan
        plan.groups, plan.shared = [], None
        while fresh := [entry for entry in fresh if len(entry[1]) > start]:
            plan.length = start + EXACT_WIDTH
            for batch in chunked(fresh, _PREFILL_TOKENS // EXACT_WIDTH):
                tokens = np.zeros((len(batch), EXACT_WIDTH), np.int64)
                for row, (_, ids, _) in enumerate(batch):
                    piece = ids[start : start + EXACT_WIDTH]
                    tokens[row, : len(piece)] = piece
                positions = np.tile(np.arange(start, plan.length), (len(batch), 1))
                plan.rows = torch.tensor([slot for slot, _, _ in batch], device=self._device)
                self._forward(tokens, positions, positions)
            start = plan.length

    def _rounds_alike(self, count: int) -> bool:
        """Whether this machine computes a token's states alike in prompts, continued prompts and decoding.

        One sequence is computed as a whole, and again in turns of a longer prompt and a few decoded tokens.
        """
        length = min(_TRIAL, self._max_context)
        vocabulary = self._model.config.get_text_config().vocab_size
        ids = np.random.default_rng(0).integers(0, vocabulary, length)
        ends = [length * part // _TRIAL_TURNS for part in range(1, _TRIAL_TURNS + 1)]
        self.reserve(length)
        with torch.inference_mode():
            self.prefill([(0, ids.tolist(), 0)])
            whole = self.cache.save(0, length)
            start = 0
            for end in ends:
                decoded = max(start, end - _TRIAL_DECODED)
                if decoded > start:  # in a short context, turns are decoded as a whole
                    self.prefill([(slot, ids[:decoded].tolist(), start) for slot in {0, count - 1}])
                    self.cache.copy_row(0, list(range(1, count - 1)), decoded)
                for position in range(decoded, end):
                    tokens, positions = np.full(count, ids[position]), np.full(count, position)
                    self.decode(tokens, positions, np.zeros(count, np.int64))
                start = end
            again = [self.cache.save(slot, length) for slot in (0, count - 1)]
        return all(
            torch.equal(one, other) for states in again for one, other in zip(whole, states, strict=True)
        )

    def _forward(self, tokens: Ints, positions: Ints, places: Ints) -> torch.Tensor:
        """One pass of the model; returns the last position's logits, shape [rows, V], float32.

        Args:
            tokens, positions: ids and positions in their sequences, shape [rows, t].
            places: positions in their slots.
        """
        plan = self._plan
        plan.positions = torch.from_numpy(places).to(self._device)
        if plan.groups:
            # A mask of four dimensions is passed through as it is; the groups have their own.
            mask = torch.zeros(1, 1, 1, 1, dtype=self._dtype, device=self._device)
        else:
            mask = causal_mask(plan.positions, plan.length, self._dtype)
        output = self._model(
            input_ids=torch.from_numpy(tokens).to(self._device),
            position_ids=torch.from_numpy(positions).to(self._device),
            attention_mask=mask,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: self.cache},
            **self._extra,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _groups(self, places: Ints) -> list[Group]:
        """Neighbouring rows, read as far as the longest of them; groups of equal length are one; on a GPU all are."""
        longest = np.maximum.reduceat(places, np.arange(0, len(places), GROUP)) + 1
        lengths = np.minimum(-(-longest // LENGTH_STEP) * LENGTH_STEP, self.cache.capacity)
        if self._together:
            lengths[:] = lengths.max()
        borders = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
        where = torch.from_numpy(places).to(self._device)[:, None]
        groups = []
        for first, last in itertools.pairwise(borders):
            start, stop, length = first * GROUP, min(last * GROUP, len(places)), int(lengths[first])
            groups.append(Group(start, stop, length, causal_mask(where[start:stop], length, self._dtype)))
        return groups
