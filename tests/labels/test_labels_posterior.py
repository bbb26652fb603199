"""P(Y < r X) for two Beta posteriors, against what must hold, scipy, and plain sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.labels.posterior import PRIOR, beta_cdf, chance_below, chances_below

counts = st.integers(0, 200).flatmap(lambda n: st.integers(0, n).map(lambda c: (c, n)))
ratios = st.floats(0.05, 3.0)


@settings(deadline=None, max_examples=60)
@given(a=counts, b=counts, x=st.floats(0, 1))
def test_the_distribution_function_is_scipys(a: tuple[int, int], b: tuple[int, int], x: float) -> None:
    special = pytest.importorskip("scipy.special")
    left, right = a[0] + PRIOR, b[1] + PRIOR
    found = float(beta_cdf(np.array([x]), np.array([left]), np.array([right]))[0])
    assert found == pytest.approx(special.betainc(left, right, x), abs=1e-11)


@settings(deadline=None, max_examples=40)
@given(before=counts, after=counts, ratio=ratios)
def test_the_chance_is_the_integral(before: tuple[int, int], after: tuple[int, int], ratio: float) -> None:
    """Over a grid of quantiles of X: the mean of F_Y(r x)."""
    stats = pytest.importorskip("scipy.stats")
    grid = (np.arange(20_000) + 0.5) / 20_000
    x = stats.beta.ppf(grid, before[0] + PRIOR, before[1] - before[0] + PRIOR)
    y = stats.beta(after[0] + PRIOR, after[1] - after[0] + PRIOR)
    assert chance_below(before, after, ratio) == pytest.approx(y.cdf(ratio * x).mean(), abs=2e-4)


def test_the_chance_is_what_sampling_finds() -> None:
    rng = np.random.default_rng(0)
    for before, after, ratio in [
        ((13, 16), (9, 16), 0.8),
        ((2, 64), (0, 64), 0.8),
        ((30, 32), (4, 4), 1.2),
    ]:
        x = rng.beta(before[0] + PRIOR, before[1] - before[0] + PRIOR, 400_000)
        y = rng.beta(after[0] + PRIOR, after[1] - after[0] + PRIOR, 400_000)
        assert chance_below(before, after, ratio) == pytest.approx((y < ratio * x).mean(), abs=4e-3)


@settings(deadline=None, max_examples=40)
@given(before=counts, after=counts)
def test_one_is_below_the_other_or_the_other_way_round(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    both = chance_below(before, after, 1.0) + chance_below(after, before, 1.0)
    assert both == pytest.approx(1.0, abs=1e-7)
    assert chance_below(before, after, 0.5) + chance_below(after, before, 2.0) == pytest.approx(1, abs=1e-7)


@settings(deadline=None, max_examples=30)
@given(before=counts, total=st.integers(1, 100), ratio=ratios)
def test_more_correct_completions_never_make_an_error_likelier(
    before: tuple[int, int], total: int, ratio: float
) -> None:
    after = np.arange(total + 1, dtype=np.float64)
    chances = chances_below(np.full(total + 1, float(before[0])), before[1], after, total, ratio)
    assert (np.diff(chances) <= 1e-7).all()
    assert ((chances >= 0) & (chances <= 1)).all()
