"""Sampling whole batches of rows, each with its own parameters and its own stream of random numbers.

The random number of a token depends on (row key, position, attempt) alone, through a hash: what a row
gets does not depend on which rows happen to share its batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ATTEMPTS = 6


def row_key(prompt_ids: list[int], seed: int, sample: int) -> int:
    """The 64-bit key of a row's random stream.

    The prompt is part of it: the second round of a rollout, whose positions start at 0 again, must not
    repeat the draws of the first.
    """
    digest = hashlib.blake2b(np.asarray(prompt_ids, dtype=np.int64).tobytes(), digest_size=8)
    digest.update(f"|{seed}|{sample}".encode())
    return int.from_bytes(digest.digest(), "little")


def uniforms(keys: NDArray[np.uint64], counters: NDArray[np.int64], attempt: int) -> NDArray[np.float64]:
    """One uniform number in [0, 1) a row, by the SplitMix64 output function on key and counter."""
    with np.errstate(over="ignore"):
        z = (
            keys
            + (counters.astype(np.uint64) * np.uint64(_ATTEMPTS + 1) + np.uint64(attempt + 1)) * _GOLDEN
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    numbers: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


@dataclass(slots=True)
class RowParams:
    """Sampling parameters of n rows, as arrays of length n (see `SamplingParams`)."""

    temperature: NDArray[np.float32]
    top_k: NDArray[np.int64]
    top_p: NDArray[np.float32]
    keys: NDArray[np.uint64]
    counters: NDArray[np.int64]


def sample(logits: torch.Tensor, params: RowParams) -> torch.Tensor:
    """Draw one token id for each row of `logits` (shape [n, V], float32); returns shape [n].

    Top-k is applied first, top-p to what remains, as vLLM and transformers do. Instead of sorting the
    vocabulary, a token is drawn from the full distribution and kept if it lies in the truncated set;
    rows that miss draw again. Conditioned on being kept, the draw follows the truncated, renormalised
    distribution exactly. Rows that keep missing are sorted.
    """
    warm = np.flatnonzero(params.temperature > 0)
    if warm.size == 0:
        return logits.argmax(-1)
    device = logits.device
    if warm.size == len(params.temperature):
        scores = logits / torch.from_numpy(params.temperature).to(device)[:, None]
    else:
        scores = logits[torch.from_numpy(warm).to(device)]
        scores = scores / torch.from_numpy(params.temperature[warm]).to(device)[:, None]
    drawn = _draw_truncated(
        scores.softmax(-1),
        RowParams(
            params.temperature[warm],
            params.top_k[warm],
            params.top_p[warm],
            params.keys[warm],
            params.counters[warm],
        ),
    )
    if warm.size == len(params.temperature):
        return drawn
    chosen = logits.argmax(-1)
    chosen[torch.from_numpy(warm).to(device)] = drawn
    return chosen


def _draw_truncated(probs: torch.Tensor, params: RowParams) -> torch.Tensor:
    """Draw from the truncated rows of `probs` by rejection."""
    cdf = probs.cumsum(-1, dtype=torch.float64 if probs.shape[-1] > 8192 else None)
    chosen = _invert(cdf, uniforms(params.keys, params.counters, 0))
    limited = (params.top_k > 0) | (params.top_p < 1)
    if not limited.any():
        return chosen
    picked = probs.gather(-1, chosen[:, None])[:, 0]
    # A token with more than half of the mass is the most likely one, and that one is never cut.
    open_rows = np.flatnonzero(limited & (picked <= 0.5).cpu().numpy())
    for attempt in range(1, _ATTEMPTS + 1):
        if open_rows.size == 0:
            return chosen
        index = torch.from_numpy(open_rows).to(probs.device)
        sub = probs[index]
        kept = _in_truncated_set(sub, chosen[index], params.top_k[open_rows], params.top_p[open_rows])
        missed = ~kept.cpu().numpy()
        open_rows = open_rows[missed]
        if open_rows.size == 0:
            return chosen
        index = torch.from_numpy(open_rows).to(probs.device)
        numbers = uniforms(params.keys[open_rows], params.counters[open_rows], attempt)
        if attempt == _ATTEMPTS:
            sub = probs[index]
            chosen[index] = _draw_sorted(sub, params.top_k[open_rows], params.top_p[open_rows], numbers)
        else:
            chosen[index] = _invert(cdf[index], numbers)
    return chosen


def _invert(cdf: torch.Tensor, numbers: NDArray[np.float64]) -> torch.Tensor:
    """Inverse-CDF draw from rows of an unnormalised cumulative distribution."""
    u = torch.from_numpy(numbers).to(cdf.device, cdf.dtype)[:, None]
    found = torch.searchsorted(cdf, u * cdf[:, -1:], right=True)[:, 0]
    return found.clamp_(max=cdf.shape[-1] - 1)


def _in_truncated_set(
    probs: torch.Tensor, chosen: torch.Tensor, top_k: NDArray[np.int64], top_p: NDArray[np.float32]
) -> torch.Tensor:
    """Whether each row's chosen token survives top-k, then top-p. Ties at the border survive."""
    device = probs.device
    limit_k = torch.from_numpy(np.where(top_k > 0, top_k, probs.shape[-1])).to(device)
    limit_p = torch.from_numpy(top_p).to(device)
    own = probs.gather(-1, chosen[:, None])
    above = probs > own
    rank = above.sum(-1)
    mass_above = (probs * above).sum(-1)
    in_k = rank < limit_k
    # Top-p compares with the mass that top-k left, between mass_above + own and 1.
    kept = in_k & (mass_above < limit_p * (mass_above + own[:, 0]))
    unsure = in_k & ~kept & (mass_above < limit_p)
    rows = unsure.nonzero()[:, 0]
    if rows.numel():
        limits = limit_k[rows]
        top, _ = probs[rows].topk(int(limits.max()), dim=-1)
        mask = torch.arange(top.shape[-1], device=device)[None, :] < limits[:, None]
        kept[rows] = mass_above[rows] < limit_p[rows] * (top * mask).sum(-1)
    return kept


def _draw_sorted(
    probs: torch.Tensor, top_k: NDArray[np.int64], top_p: NDArray[np.float32], numbers: NDArray[np.float64]
) -> torch.Tensor:
    """Draw after sorting; exact and slow."""
    device = probs.device
    limit_k = torch.from_numpy(np.where(top_k > 0, top_k, probs.shape[-1])).to(device)[:, None]
    ordered, ids = probs.sort(dim=-1, descending=True, stable=True)
    ordered = ordered * (torch.arange(probs.shape[-1], device=device)[None, :] < limit_k)
    before = ordered.cumsum(-1) - ordered
    total = ordered.sum(-1, keepdim=True)
    ordered = ordered * (before < torch.from_numpy(top_p).to(device)[:, None] * total)
    rank = _invert(ordered.cumsum(-1), numbers)
    return ids.gather(-1, rank[:, None])[:, 0]
