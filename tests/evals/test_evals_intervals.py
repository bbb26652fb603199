"""Intervals: they hold their value, narrow with more items, cover what they should, and never claim certainty."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.evals.intervals import Z, mean_share, plain_share, ratio_share, resampled_totals, wilson
from genprm.records import Share

counts = st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


def width(share: Share) -> float:
    assert share.low is not None and share.high is not None
    return share.high - share.low


@given(counts)
def test_wilson_holds_its_share_inside_0_and_100(pair: tuple[int, int]) -> None:
    count, total = pair
    low, high = wilson(count, total)
    assert 0 <= low <= 100 * count / total <= high <= 100
    assert low < high
    mirrored = wilson(total - count, total)
    assert mirrored == pytest.approx((100 - high, 100 - low), abs=1e-9)


def test_wilson_against_published_values() -> None:
    """Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    assert pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-12) == Z
    assert wilson(81, 263) == pytest.approx((25.53, 36.62), abs=0.005)
    assert wilson(15, 148) == pytest.approx((6.24, 16.05), abs=0.005)
    assert wilson(0, 20) == pytest.approx((0.0, 16.11), abs=0.005)
    assert wilson(1, 29) == pytest.approx((0.61, 17.18), abs=0.005)


@given(counts)
def test_wilson_narrows_with_more_items(pair: tuple[int, int]) -> None:
    count, total = pair
    assert width(plain_share(4 * count, 4 * total)) < width(plain_share(count, total))


def test_certainty_is_never_claimed() -> None:
    assert wilson(0, 10)[0] == 0.0 and wilson(0, 10)[1] > 20
    assert wilson(10, 10)[1] == 100.0 and wilson(10, 10)[0] < 80
    for value in (0.0, 1.0):
        share = mean_share([value] * 10)
        assert (share.method, share.low, share.high) == ("wilson", *wilson(round(10 * value), 10))


def test_nothing_is_unknown_with_the_reason() -> None:
    for share in (
        plain_share(0, 0, "why"),
        ratio_share([], [], reason="why"),
        ratio_share([0], [0], reason="why"),
    ):
        assert (share.value, share.low, share.method, share.reason) == (None, None, None, "why")
    for pair in ((1, 0), (2, 1), (-1, 3)):
        with pytest.raises(ValueError, match="no share"):
            wilson(*pair)


def test_items_that_do_not_differ_have_no_interval() -> None:
    share = mean_share([0.5] * 20)
    assert (share.value, share.low, share.method) == (50.0, None, None)
    assert share.reason is not None and "differ" in share.reason


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 5))
def test_a_bootstrap_holds_its_mean_and_repeats_with_its_seed(values: list[float], seed: int) -> None:
    share = mean_share(values, seed=seed)
    assert share == mean_share(values, seed=seed)
    assert share.value == pytest.approx(100 * statistics.fmean(values))
    if share.low is not None:
        assert share.value is not None and share.high is not None
        assert share.low <= share.value <= share.high


def test_a_bootstrap_narrows_with_more_items() -> None:
    generator = random.Random(0)
    values = [generator.random() for _ in range(1600)]
    assert width(mean_share(values)) < width(mean_share(values[:400])) < width(mean_share(values[:100]))


def test_a_bootstrap_of_flags_agrees_with_wilson() -> None:
    flags = [1.0] * 280 + [0.0] * 120
    share, plain = mean_share(flags), plain_share(280, 400)
    assert (share.low, share.high) == pytest.approx((plain.low, plain.high), abs=0.6)


def test_a_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = random.Random(1)
    hits = 0
    for trial in range(200):
        share = mean_share([generator.betavariate(2, 3) for _ in range(50)], seed=trial)
        assert share.low is not None and share.high is not None
        hits += share.low <= 40 <= share.high
    assert 180 <= hits <= 199


def test_what_belongs_together_is_resampled_together() -> None:
    """Ten copies of each item add no evidence when they are one item, and do when they are independent."""
    flags = [1.0] * 12 + [0.0] * 8
    together = ratio_share([10 * flag for flag in flags], [10] * 20)
    apart = ratio_share(flags * 10, [1] * 200)
    assert together.value == apart.value == pytest.approx(60)
    assert width(together) > 2 * width(apart)


def test_resamples_are_draws_with_replacement() -> None:
    rows = [(1.0, 5.0), (0.0, 1.0), (1.0, 5.0)]
    drawn = resampled_totals(rows, seed=0)
    assert drawn.shape == (2000, 2)
    assert {tuple(row) for row in drawn.tolist()} == {(k, 3 + 4 * k) for k in (0.0, 1.0, 2.0, 3.0)}
    assert drawn[:, 0].mean() == pytest.approx(2, abs=0.06)
    other = resampled_totals(rows, seed=0, stream=1)
    assert (drawn != other).any()
