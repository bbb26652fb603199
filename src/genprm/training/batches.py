"""Which samples each optimizer step sees, and how a step is cut into micro-batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from genprm.training.chat_data import EncodedSample

if TYPE_CHECKING:
    import numpy as np

IGNORED = -100
"""The label of a position that carries no loss, as transformers expects it."""

_MULTIPLE = 8
_MOST_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Padded tokens of a micro-batch. On a CPU small ones stay in its caches and need less padding."""
_MOST_LOGITS = 2**28
"""Logits of one micro-batch: 1 GiB in float32."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The optimizer steps of a training job, known before it starts.

    Attributes:
        steps: for each optimizer step the indices of its samples.
        tokens: input tokens (padding left out) up to and including each step.
    """

    steps: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.steps)


def make_plan(
    lengths: Sequence[int], *, batch_size: int, epochs: float, max_tokens: int | None, seed: int
) -> Plan:
    """Shuffle the samples anew in every epoch and cut the stream into steps of `batch_size` samples.

    Args:
        lengths: tokens of each sample.
        epochs: passes over the samples; a fraction is a share of them.
        max_tokens: the plan ends with the step that reaches so many input tokens, if it is not over before.
    """
    stream = itertools.islice(_shuffled(len(lengths), seed), max(1, round(epochs * len(lengths))))
    steps: list[tuple[int, ...]] = []
    tokens: list[int] = []
    total = 0
    while step := tuple(itertools.islice(stream, batch_size)):
        total += sum(lengths[index] for index in step)
        steps.append(step)
        tokens.append(total)
        if max_tokens is not None and total >= max_tokens:
            break
    return Plan(tuple(steps), tuple(tokens))


def _shuffled(count: int, seed: int) -> Iterator[int]:
    import numpy as np

    generator = np.random.default_rng([seed, count])
    while True:
        yield from generator.permutation(count).tolist()


def token_limit(vocab_size: int, longest: int, device: Literal["cpu", "cuda"]) -> int:
    """Padded tokens of a micro-batch that keep its logits small; one sample always fits."""
    return max(_padded(longest), min(_MOST_TOKENS[device], _MOST_LOGITS // max(1, vocab_size)))


def micro_batches(
    step: Sequence[int], lengths: Sequence[int], *, tokens: int, rows: int
) -> list[list[int]]:
    """Cut one step into micro-batches of samples of similar length.

    Args:
        tokens: most tokens of a micro-batch, padding included; a single longer sample stands alone.
        rows: most samples of a micro-batch; 0 for no limit.
    """
    batches: list[list[int]] = []
    width = 0
    for index in sorted(step, key=lambda i: (-lengths[i], i)):
        full = not batches or (rows and len(batches[-1]) >= rows) or (len(batches[-1]) + 1) * width > tokens
        if full:
            batches.append([])
            width = _padded(lengths[index])
        batches[-1].append(index)
    return batches


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def collate(samples: Sequence[EncodedSample], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Input ids and labels, [samples, longest length rounded up to 8], padded on the right.

    Labels are the input ids where the loss mask says so and `IGNORED` elsewhere; the model shifts them.
    The first token of a sequence is predicted by nothing and never carries a loss.
    """
    import numpy as np

    width = _padded(max(len(sample) for sample in samples))
    ids = np.full((len(samples), width), pad, dtype=np.int64)
    labels = np.full((len(samples), width), IGNORED, dtype=np.int64)
    for row, sample in enumerate(samples):
        ids[row, : len(sample)] = sample.input_ids
        labels[row, : len(sample)] = np.where(sample.loss_mask, sample.input_ids, IGNORED)
    labels[:, 0] = IGNORED
    return ids, labels
