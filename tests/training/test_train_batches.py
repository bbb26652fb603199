"""Plans and batches: every sample as often as promised, budgets met, padding small."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.training.batches import IGNORED, collate, make_plan, micro_batches, token_limit
from genprm.training.chat_data import EncodedSample

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 16), st.integers(1, 4), st.integers(0, 3))
def test_whole_epochs_show_every_sample_equally_often(
    lengths: list[int], batch: int, epochs: int, seed: int
) -> None:
    plan = make_plan(lengths, batch_size=batch, epochs=epochs, max_tokens=None, seed=seed)
    seen = Counter(index for step in plan.steps for index in step)
    assert seen == dict.fromkeys(range(len(lengths)), epochs)
    assert all(len(step) == batch for step in plan.steps[:-1])
    assert plan.tokens[-1] == epochs * sum(lengths)


@given(LENGTHS, st.integers(1, 16), st.integers(1, 5000))
def test_a_token_budget_ends_with_the_step_that_reaches_it(
    lengths: list[int], batch: int, budget: int
) -> None:
    plan = make_plan(lengths, batch_size=batch, epochs=50, max_tokens=budget, seed=1)
    whole = 50 * sum(lengths)
    assert plan.tokens[-1] >= min(budget, whole)
    assert len(plan) == 1 or plan.tokens[-2] < budget


def test_plans_follow_the_seed() -> None:
    def plan(seed: int) -> object:
        return make_plan([5] * 40, batch_size=8, epochs=2, max_tokens=None, seed=seed).steps

    assert plan(3) == plan(3)
    assert plan(3) != plan(4)


def test_epochs_are_shuffled_anew() -> None:
    steps = make_plan([5] * 40, batch_size=40, epochs=2, max_tokens=None, seed=0).steps
    assert steps[0] != steps[1]


def test_a_fraction_of_an_epoch_is_a_share_of_the_samples() -> None:
    plan = make_plan([1] * 10, batch_size=4, epochs=0.5, max_tokens=None, seed=0)
    assert [len(step) for step in plan.steps] == [4, 1]


@given(LENGTHS, st.integers(8, 600), st.integers(0, 5))
def test_micro_batches_partition_a_step_within_the_limits(
    lengths: list[int], tokens: int, rows: int
) -> None:
    batches = micro_batches(range(len(lengths)), lengths, tokens=tokens, rows=rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        width = -(-max(lengths[index] for index in batch) // 8) * 8
        assert len(batch) == 1 or width * len(batch) <= tokens
        assert not rows or len(batch) <= rows


def test_similar_lengths_share_a_micro_batch() -> None:
    batches = micro_batches(range(4), [10, 100, 12, 98], tokens=208, rows=0)
    assert batches == [[1, 3], [2, 0]]


@pytest.mark.parametrize(
    ("vocabulary", "longest", "limit"), [(800, 300, 8192), (150_000, 300, 1789), (800, 9001, 9008)]
)
def test_token_limit_bounds_the_logits_but_lets_every_sample_through(
    vocabulary: int, longest: int, limit: int
) -> None:
    assert token_limit(vocabulary, longest, "cuda") == limit


def test_micro_batches_are_small_on_a_cpu() -> None:
    assert token_limit(800, 300, "cpu") == 1024


def test_collate_pads_on_the_right_and_keeps_the_mask() -> None:
    short = EncodedSample(np.array([7, 8], dtype=np.int32), np.array([True, True]))
    long = EncodedSample(np.arange(9, dtype=np.int32), np.arange(9) > 4)
    ids, labels = collate([short, long], pad=99)
    assert ids.shape == labels.shape == (2, 16)
    assert ids[0].tolist() == [7, 8, *[99] * 14]
    assert labels[0].tolist() == [IGNORED, 8, *[IGNORED] * 14], "nothing predicts a first token"
    assert labels[1].tolist() == [*[IGNORED] * 5, 5, 6, 7, 8, *[IGNORED] * 7]
