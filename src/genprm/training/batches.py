"""Which samples each optimizer step sees, and how a step is cut into micro-batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MULTIPLE = 8
"""Micro-batches are padded to a multiple of so many tokens."""


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


MicroBatches = list[list[int]]


@dataclass(frozen=True, slots=True)
class Cut:
    """A plan as micro-batches, for any number of processes.

    Attributes:
        steps: the micro-batches of each optimizer step, the costliest first. Each of `processes` neighbours goes to
            another process. Every step has equally many but the last one, which may have fewer.
        processes: how many processes train.
    """

    steps: tuple[MicroBatches, ...]
    processes: int

    @property
    def accumulation(self) -> int:
        """Micro-batches per process and optimizer step."""
        return len(self.steps[0]) // self.processes

    def of_process(self, rank: int) -> MicroBatches:
        """The micro-batches of one process, in order."""
        return [batch for step in self.steps for batch in step[rank :: self.processes]]

    def padding_share(self, lengths: Sequence[int], steps: int) -> float:
        """Share of the positions of the first `steps` steps that hold padding."""
        batches = [batch for step in self.steps[:steps] for batch in step]
        tokens = sum(lengths[index] for batch in batches for index in batch if index < len(lengths))
        return 1.0 - tokens / sum(_padded_tokens(batch, lengths) for batch in batches)


def cut_plan(plan: Plan, lengths: Sequence[int], *, tokens: int, rows: int, processes: int) -> Cut:
    """Cut every optimizer step into micro-batches of samples of similar length.

    The same number per step, because the trainer accumulates over a fixed number: that of the step that needs most, and
    a multiple of the number of processes.

    Args:
        lengths: tokens of each sample.
        tokens: most tokens of a micro-batch, padding included; a longer sample stands alone.
        rows: most samples of a micro-batch; 0 for no limit.

    Returns:
        Sample indices. The index `len(lengths)` stands for a sample without any trained token: it fills the place of a
        process that is left without one.
    """
    greedy = [_greedy(step, lengths, tokens, rows) for step in plan.steps]
    most = _up(max(len(batches) for batches in greedy), processes)
    counts = [most] * (len(greedy) - 1) + [_up(len(greedy[-1]), processes)]
    filler = len(lengths)
    steps = (
        _exactly(batches, count, lengths, filler) for batches, count in zip(greedy, counts, strict=True)
    )
    return Cut(tuple(steps), processes)


def _greedy(step: Sequence[int], lengths: Sequence[int], tokens: int, rows: int) -> MicroBatches:
    if not rows and _padded_tokens(step, lengths) <= tokens:
        return [list(step)]
    batches: MicroBatches = []
    width = 0
    for index in sorted(step, key=lambda i: (-lengths[i], i)):
        full = not batches or (rows and len(batches[-1]) >= rows) or (len(batches[-1]) + 1) * width > tokens
        if full:
            batches.append([])
            width = _up(lengths[index], MULTIPLE)
        batches[-1].append(index)
    return batches


def _exactly(batches: MicroBatches, count: int, lengths: Sequence[int], filler: int) -> MicroBatches:
    """Halve the largest micro-batches until there are `count` of them."""
    if len(batches) == count:
        return batches
    found = list(batches)
    while len(found) < count:
        sizes = [_padded_tokens(batch, lengths) if len(batch) > 1 else 0 for batch in found]
        place = max(range(len(found)), key=sizes.__getitem__)
        if not sizes[place]:
            return found + [[filler] for _ in range(count - len(found))]
        batch = found[place]
        half = len(batch) // 2
        found[place : place + 1] = [batch[:half], batch[half:]]
    return sorted(found, key=lambda batch: -_padded_tokens(batch, lengths))


def _padded_tokens(batch: Sequence[int], lengths: Sequence[int]) -> int:
    known = [lengths[index] for index in batch if index < len(lengths)]
    return _up(max(known), MULTIPLE) * len(batch) if known else 0


def _up(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple
