"""Attention of one decoding step over slots of unequal length, and over prefixes that rows share.

A decoding step reads every row's keys and values once, so for small models it is bound by memory, not
by arithmetic. Two things save traffic: rows are read in groups, each only as far as its own longest row,
and a prefix that many rows have in common (samples of one prompt) is read once for all of them. The two
parts of a row's attention are put together by their log-sum-exp weights, which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "genprm_slots"

# Products of at least so many rows, and of at most so many terms at once, round alike on a CPU whatever
# the other extents are; `Runner` checks it on the machine before it relies on it.
_EXACT_ROWS = 4
_EXACT_TERMS = 128

# Families whose layers call the attention function with nothing but query, key, value, mask and scale.
SUPPORTED = frozenset({"llama", "qwen2", "qwen3", "mistral", "smollm3", "phi3", "olmo2"})


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring slots `start`..`stop`-1, read up to `length`, with their additive mask."""

    start: int
    stop: int
    length: int
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """Which rows read which shared prefix.

    Attributes:
        keys, values: for each layer, shape [prefixes, heads, capacity, width].
        length: positions that are read.
        mask: additive, shape [prefixes, 1, 1, length].
        members: rows of each prefix, padded, shape [prefixes, most rows of one prefix].
        place: index of each row in the flattened `members`, shape [rows]; 0 for rows without a prefix.
        weight: additive for the log-sum-exp of the prefix part, shape [rows, 1, 1]: 0, or -inf for rows
            without a prefix.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    length: int
    mask: torch.Tensor
    members: torch.Tensor
    place: torch.Tensor
    weight: torch.Tensor


@dataclass(slots=True)
class Plan:
    """Where the next forward pass writes and reads.

    Attributes:
        rows: slots of the batch's rows, shape [r], to compute prompts; None for the slots 0..r-1 when
            decoding.
        positions: where in its slot each row's tokens go, shape [r, t].
        length: how many positions attention reads (unless `groups` say it).
        groups: for decoding with `slot_attention`.
        shared: the same; None where no row has a shared prefix.
        exact: use plain matrix products only. The fused CPU kernel rounds differently from thread to
            thread (its scratch memory is aligned differently), so a row's result depends on which
            thread got it.
    """

    rows: torch.Tensor | None = None
    positions: torch.Tensor = field(default_factory=lambda: torch.zeros(1, 1, dtype=torch.long))
    length: int = 0
    groups: list[Group] = field(default_factory=list)
    shared: SharedPlan | None = None
    exact: bool = False


def install(model: Any) -> bool:
    """Make a model use `slot_attention`; False for a family it was not written for."""
    if model.config.model_type not in SUPPORTED:
        return False
    AttentionInterface.register(NAME, slot_attention)
    model.set_attn_implementation(NAME)
    return True


def slot_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    slot_plan: Plan | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention function in transformers' interface.

    When decoding, `key` and `value` are whole slot storages, shape [slots, heads, capacity, width], and
    `query` has shape [rows, query heads, 1, width]; query heads that share a key head are folded into the
    query length, so that each key is read once.
    """
    if slot_plan is not None and slot_plan.exact and attention_mask is not None and not slot_plan.groups:
        return _exact_prompt(query, key, value, attention_mask, scaling), None
    if slot_plan is None or not slot_plan.groups:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    rows, heads, _, width = query.shape
    folded = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    parts = [
        attend(
            folded[group.start : group.stop],
            key[group.start : group.stop, :, : group.length],
            value[group.start : group.stop, :, : group.length],
            group.mask,
            scaling,
            slot_plan.exact,
        )
        for group in slot_plan.groups
    ]
    output = parts[0][0] if len(parts) == 1 else torch.cat([part[0] for part in parts])
    if slot_plan.shared is not None:
        weights = parts[0][1] if len(parts) == 1 else torch.cat([part[1] for part in parts])
        output = _with_prefix(folded, output, weights, slot_plan.shared, module.layer_idx, scaling)
    return output.reshape(rows, 1, heads, width), None


def _exact_prompt(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Attention of a piece of a prompt; shape [rows, tokens, query heads, width]."""
    rows, heads, tokens, width = query.shape
    fold = heads // key.shape[1]
    folded = query.reshape(rows, key.shape[1], fold * tokens, width)
    output, _ = attend(folded, key, value, mask.repeat(1, 1, fold, 1), scaling, exact=True)
    return output.reshape(rows, heads, tokens, width).transpose(1, 2)


def _with_prefix(
    query: torch.Tensor,
    output: torch.Tensor,
    weights: torch.Tensor,
    shared: SharedPlan,
    layer: int,
    scaling: float | None,
) -> torch.Tensor:
    """Add the shared prefixes' part to attention over the rows' own positions."""
    _, heads, fold, width = query.shape
    prefixes, most = shared.members.shape
    gathered = query[shared.members.reshape(-1)].view(prefixes, most, heads, fold, width)
    gathered = gathered.transpose(1, 2).reshape(prefixes, heads, most * fold, width)
    found, logs = attend(
        gathered,
        shared.keys[layer][:prefixes, :, : shared.length],
        shared.values[layer][:prefixes, :, : shared.length],
        shared.mask,
        scaling,
    )
    found = found.view(prefixes, heads, most, fold, width).transpose(1, 2)
    logs = logs.view(prefixes, heads, most, fold).transpose(1, 2)
    found = found.reshape(prefixes * most, heads, fold, width)[shared.place]
    logs = logs.reshape(prefixes * most, heads, fold)[shared.place] + shared.weight
    share = torch.sigmoid(logs - weights)[..., None].to(output.dtype)
    return torch.lerp(output, found, share)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None,
    exact: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention output [b, h, q, w] and the log-sum-exp of its scores [b, h, q], float32."""
    if query.device.type == "cpu" and not exact:
        fused: tuple[torch.Tensor, torch.Tensor] = (
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, 0.0, False, attn_mask=mask, scale=scaling
            )
        )
        return fused
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    product = _exact_product if exact else torch.matmul
    scores = product(query, key.transpose(2, 3)).float().mul_(scale).add_(mask)
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    total = weights.sum(-1, keepdim=True)
    weights = weights.to(value.dtype)
    terms = _EXACT_TERMS if exact else value.shape[2]
    output = product(weights[..., :terms], value[:, :, :terms])
    for start in range(terms, value.shape[2], terms):
        stop = start + terms
        output += product(weights[..., start:stop], value[:, :, start:stop])
    return output / total.to(output.dtype), (top + total.log())[..., 0]


def _exact_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Matrix product whose rows round alike however many there are."""
    rows = left.shape[-2]
    if rows >= _EXACT_ROWS:
        return torch.matmul(left, right)
    wide = left.repeat(1, 1, -(-_EXACT_ROWS // rows), 1)
    return torch.matmul(wide, right)[:, :, :rows]
