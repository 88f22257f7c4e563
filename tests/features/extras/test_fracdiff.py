"""Fractional difference: weights by hand, values compared with a slow sum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vpoc_ml.features.extras.fracdiff import ORDER, THRESHOLD, fixed_width_weights, fractional_difference
from vpoc_ml.features.registry import OPTIONAL_FEATURES


def test_weights_by_hand():
    assert fixed_width_weights(0.4, 0.04).tolist() == pytest.approx([1, -0.4, -0.12, -0.064, -0.0416])
    assert fixed_width_weights(0.5, 0.03).tolist() == pytest.approx([1, -0.5, -0.125, -0.0625, -0.0390625])


def test_weights_are_binomial_coefficients_and_stop_at_the_threshold():
    weights = fixed_width_weights(ORDER, THRESHOLD)
    for k in (1, 7, 100):
        gamma = math.lgamma(k - ORDER) - math.lgamma(k + 1) - math.lgamma(1 - ORDER)
        assert weights[k] == pytest.approx(-ORDER * math.exp(gamma), rel=1e-10)
    assert abs(weights[-1]) >= THRESHOLD
    assert abs(fixed_width_weights(ORDER, THRESHOLD / 2)[weights.size]) < THRESHOLD
    assert OPTIONAL_FEATURES["fracdiff_04"].warmup_bars == weights.size - 1


def test_order_one_is_the_last_return():
    close = np.array([100.0, 101.0, 99.0])
    found = fractional_difference(close, np.array([1.0, -1.0, 0.0]))
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx(1e4 * math.log(99 / 101))


def test_values_equal_a_slow_sum():
    weights = fixed_width_weights(0.4, 0.01)
    close = 20_000 + np.cumsum(np.random.default_rng(2).integers(-8, 9, 90)).astype(float)
    found = fractional_difference(close, weights)
    longest = weights.size - 1
    for row in range(close.size):
        if row < longest:
            assert math.isnan(found[row])
            continue
        oldest = close[row - longest]
        slow = math.fsum(weights[k] * math.log(close[row - k] / oldest) for k in range(weights.size))
        assert found[row] == pytest.approx(1e4 * slow, rel=1e-9, abs=1e-9)


def test_neither_the_level_nor_a_ratio_matters_and_a_flat_window_gives_zero():
    weights = fixed_width_weights(ORDER, 0.005)
    close = 20_000 + np.cumsum(np.random.default_rng(4).integers(-8, 9, 200)).astype(float)
    np.testing.assert_allclose(
        fractional_difference(close, weights), fractional_difference(close * 1.37, weights), atol=1e-8
    )
    flat = fractional_difference(np.full(weights.size + 5, 19_321.25), weights)
    assert (flat[weights.size - 1 :] == 0).all()


def test_a_series_shorter_than_the_window_has_no_value():
    assert np.isnan(fractional_difference(np.ones(3), np.array([1.0, -0.4, -0.12, -0.06]))).all()
