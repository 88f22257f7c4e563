"""Rank target and guard statistics against obvious formulas."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.errors import InputError


def test_ranks_golden_example_with_ties():
    target = RankTarget.fit(np.array([0.0, -1.0, 0.0, 2.0, np.nan]))
    np.testing.assert_allclose(
        target.apply(np.array([-5.0, -1.0, -0.5, 0.0, 1.0, 2.0, 9.0, np.nan])),
        [0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0, np.nan],
    )
    assert target.zero_score == 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=60))
def test_ranks_of_the_training_returns_are_scipys_average_ranks_with_mean_one_half(ticks):
    returns = np.array(ticks) * 5e-5
    ranks = RankTarget.fit(returns).apply(returns)
    np.testing.assert_allclose(ranks, (scipy.stats.rankdata(returns) - 0.5) / len(returns))
    assert ranks.mean() == pytest.approx(0.5)


def test_quantiles_are_1001_and_end_at_the_extremes():
    table = RankTarget.fit(np.linspace(-1, 1, 5001)).quantiles()
    assert len(table) == 1001
    assert (table[0], table[-1]) == (-1.0, 1.0)
    assert table[500] == pytest.approx(0.0)


def test_no_finite_return_is_an_error():
    with pytest.raises(InputError, match="training rows with a label"):
        RankTarget.fit(np.array([np.nan, np.inf]))


def column(nonzero_share: float, rows: int = 10_000) -> np.ndarray:
    values = np.zeros(rows)
    count = int(rows * nonzero_share)
    values[:count] = np.where(np.arange(count) % 2 == 0, 1.0, -1.0) * np.arange(1, count + 1)
    return values


@pytest.mark.parametrize(
    ("share", "source"), [(0.9, "25-75"), (0.4, "10-90"), (0.1, "1-99"), (0.01, "0.1-99.9"), (0.0005, "one")]
)
def test_scale_falls_back_from_percentile_to_percentile(share, source):
    found = fit_robust_scaling(column(share))
    assert found.source == source
    assert found.median == 0.0
    assert found.scale > 0


def test_every_spread_estimates_the_same_sigma_of_a_normal():
    normal = np.random.default_rng(1).normal(3.0, 2.0, 200_000)
    found = fit_robust_scaling(normal)
    assert found.median == pytest.approx(3.0, abs=0.02)
    assert found.scale == pytest.approx(2.0, rel=0.02)


def test_epsilon_ratio_keeps_its_robust_scale_and_an_empty_column_is_harmless():
    rng = np.random.default_rng(2)
    ratio = rng.normal(size=10_000)
    ratio[::300] = 1e14
    assert fit_robust_scaling(ratio).scale == pytest.approx(1.0, rel=0.05)
    assert fit_robust_scaling(np.full(10, np.nan)) == type(fit_robust_scaling(ratio))(0.0, 1.0, "one", 1.0)
