"""Distance to the training rows: by hand, bounded in one feature, and the share beyond a limit out of sample."""

from __future__ import annotations

import numpy as np
import pytest

from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.models.distance import LEVELS, distance_limit, row_distances, training_distances


def guarded(raw, fitted):
    return np.stack([each.apply(column) for each, column in zip(fitted, raw.T, strict=True)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def market():
    """Guarded rows of 20 correlated features with fat tails: those that train, later ones, and the scaling."""
    rng = np.random.default_rng(5)
    raw = rng.standard_t(4, (40_000, 20)) + rng.standard_normal((40_000, 1))
    fitted = [fit_robust_scaling(column) for column in raw[:20_000].T]
    return guarded(raw[:20_000], fitted), raw[20_000:], fitted


def test_distance_is_the_mean_square_of_a_row_whatever_the_other_rows_are():
    rows = np.array([[3, 4, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    assert row_distances(rows).tolist() == [26 / 4, 0, 1]
    many = np.random.default_rng(1).standard_normal((300, 54)).astype(np.float32)
    alone = np.concatenate([row_distances(many[at : at + 1]) for at in range(300)])
    assert np.array_equal(alone, row_distances(many))


@pytest.mark.parametrize("quantile", [0.95, 0.99, 0.999])
def test_the_stated_share_of_later_rows_of_the_same_market_is_beyond_the_limit(market, quantile):
    train, later, fitted = market
    limit = distance_limit(training_distances(train), quantile)
    beyond = (row_distances(guarded(later, fitted)) > limit).mean()
    assert beyond == pytest.approx(1 - quantile, abs=4 * np.sqrt((1 - quantile) / 10_000))


def test_rows_of_another_market_are_beyond_it_and_one_absurd_feature_is_not_enough(market):
    train, later, fitted = market
    limit = distance_limit(training_distances(train), 0.999)
    assert (row_distances(guarded(6 * later, fitted)) > limit).mean() > 0.5
    absurd = np.zeros((1, 20))
    absurd[0, 3] = 1e30
    assert row_distances(guarded(absurd, fitted))[0] < limit


def test_limits_between_levels_are_interpolated_and_1_turns_abstention_off(market):
    distances = training_distances(market[0])
    assert distances.levels == LEVELS
    middle = distance_limit(distances, 0.97)
    assert distance_limit(distances, 0.95) < middle < distance_limit(distances, 0.98)
    assert distance_limit(distances, 1.0) is None
    assert distance_limit(None, 0.9) is None
