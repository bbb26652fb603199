"""Plans and batches: every sample as often as promised, budgets met, padding small."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.training.batches import Plan, cut_plan, make_plan

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


@given(
    LENGTHS,
    st.integers(1, 16),
    st.integers(8, 600),
    st.integers(0, 5),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_micro_batches_partition_every_step_within_the_limits(
    lengths: list[int], batch: int, tokens: int, rows: int, processes: int, seed: int
) -> None:
    plan = make_plan(lengths, batch_size=batch, epochs=1.5, max_tokens=None, seed=seed)
    cut = cut_plan(plan, lengths, tokens=tokens, rows=rows, processes=processes)
    filler = len(lengths)
    for planned, step in zip(plan.steps, cut.steps, strict=True):
        seen = [index for micro in step for index in micro if index != filler]
        assert sorted(seen) == sorted(planned), "which samples a step sees does not change"
        for micro in step:
            assert micro == [filler] or filler not in micro
            width = -(-max(lengths[index] for index in micro) // 8) * 8 if micro != [filler] else 8
            assert len(micro) == 1 or width * len(micro) <= tokens
            assert not rows or len(micro) <= rows
    sizes = {len(step) for step in cut.steps[:-1]} | {cut.accumulation * processes}
    assert sizes == {len(cut.steps[0])}
    assert len(cut.steps[-1]) <= len(cut.steps[0])
    assert len(cut.steps[-1]) % processes == 0


@given(LENGTHS, st.integers(1, 16), st.integers(1, 4))
def test_processes_share_the_micro_batches_of_every_step(
    lengths: list[int], batch: int, processes: int
) -> None:
    plan = make_plan(lengths, batch_size=batch, epochs=1, max_tokens=None, seed=0)
    cut = cut_plan(plan, lengths, tokens=300, rows=0, processes=processes)
    shares = [cut.of_process(rank) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    together = [micro for neighbours in zip(*shares, strict=True) for micro in neighbours]
    assert together == [micro for step in cut.steps for micro in step]


def test_similar_lengths_share_a_micro_batch() -> None:
    plan = Plan(((0, 1, 2, 3),), (220,))
    cut = cut_plan(plan, [10, 100, 12, 98], tokens=208, rows=0, processes=1)
    assert cut.steps == ([[1, 3], [2, 0]],)
    assert cut.padding_share([10, 100, 12, 98], 1) == pytest.approx(1 - 220 / 240)


def test_every_step_has_as_many_micro_batches_as_the_one_that_needs_most() -> None:
    plan = Plan(((0, 1), (2, 3), (4,)), (200, 220, 230))
    cut = cut_plan(plan, [100, 100, 10, 10, 10], tokens=104, rows=0, processes=1)
    assert cut.steps == ([[0], [1]], [[2], [3]], [[4]])
    assert cut.accumulation == 2


def test_a_process_without_a_sample_gets_one_without_a_trained_token() -> None:
    plan = Plan(((0, 1), (2,)), (20, 30))
    cut = cut_plan(plan, [10, 10, 10], tokens=999, rows=0, processes=2)
    assert cut.of_process(0) == [[0], [2]]
    assert cut.of_process(1) == [[1], [3]]
