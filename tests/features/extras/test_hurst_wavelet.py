"""Hurst exponent and wavelet shares compared with slow definitions and with series of known exponent."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vpoc_ml.features.extras.hurst import LAGS, hurst
from vpoc_ml.features.extras.wavelet import coefficients, energy_shares


@pytest.fixture(scope="module")
def close() -> np.ndarray:
    return 20_000 + np.cumsum(np.random.default_rng(8).integers(-9, 10, 700)).astype(float)


def test_hurst_equals_a_slow_regression(close):
    found = hurst(close, 120, LAGS)
    assert np.isnan(found[:120]).all()
    for row in (120, 300, 699):
        logs = np.log(close[row - 120 : row + 1])
        sizes = [math.log(np.mean((logs[lag:] - logs[:-lag]) ** 2)) for lag in LAGS]
        slope = np.polyfit(np.log(LAGS), sizes, 1)[0]
        assert found[row] == pytest.approx(min(max(slope / 2, 0), 1), rel=1e-6)


def test_hurst_of_known_series():
    draw = np.random.default_rng(1)
    walk = np.mean([hurst(np.exp(np.cumsum(draw.normal(0, 1e-4, 391))), 390, LAGS)[-1] for _ in range(60)])
    assert walk == pytest.approx(0.5, abs=0.03)
    straight = np.exp(np.arange(391) * 1e-4)
    assert hurst(straight, 390, LAGS)[-1] == pytest.approx(1, abs=1e-6)
    swinging = np.exp(draw.normal(0, 1e-4, 391))
    assert hurst(swinging, 390, LAGS)[-1] < 0.1
    assert hurst(np.full(391, 5_000.0), 390, LAGS)[-1] == 0.5


def filtered(returns: np.ndarray, level: int, row: int) -> float:
    """The a trous cascade, written out: each smooth is the mean of two values 2^(level-1) bars apart."""

    def smooth(at: int, depth: int) -> float:
        return returns[at] if depth == 0 else (smooth(at, depth - 1) + smooth(at - 2 ** (depth - 1), depth - 1)) / 2

    return smooth(row, level - 1) - smooth(row, level)


def test_wavelet_coefficients_equal_the_cascade(close):
    returns = np.concatenate(([0.0], np.diff(np.log(close))))
    details, smooth = coefficients(close, 4)
    for row in (16, 50, 699):
        for level in range(1, 5):
            assert details[level - 1][row] == pytest.approx(filtered(returns, level, row), abs=1e-15)
        assert smooth[row] == pytest.approx(returns[row - 15 : row + 1].mean(), abs=1e-15)


def test_wavelet_shares_equal_slow_sums(close):
    found = energy_shares(close, 100, 3)
    details, smooth = coefficients(close, 3)
    assert np.isnan(found[:, : 100 - 1 + 8]).all()
    for row in (107, 400, 699):
        window = slice(row - 99, row + 1)
        energies = [math.fsum(detail[window] ** 2) for detail in (*details, smooth)]
        assert found[:, row].tolist() == pytest.approx([each / math.fsum(energies) for each in energies[:3]], rel=1e-9)


def test_shares_of_noise_halve_with_each_scale_and_slow_waves_are_in_the_coarse_ones():
    noise = np.exp(np.cumsum(np.random.default_rng(2).normal(0, 1e-4, 20_000)))
    shares = np.nanmean(energy_shares(noise, 390, 6), axis=1)
    assert shares.tolist() == pytest.approx([2.0**-level for level in range(1, 7)], rel=0.05)
    slow = np.exp(1e-3 * np.sin(2 * np.pi * np.arange(600) / 40))
    assert energy_shares(slow, 390, 6)[:, -1].argmax() >= 3
    fast = np.exp(1e-3 * (-1.0) ** np.arange(600))
    assert energy_shares(fast, 390, 6)[0, -1] == pytest.approx(1, abs=1e-9)


def test_a_flat_window_has_the_shares_of_noise():
    assert energy_shares(np.full(600, 4_000.0), 390, 6)[:, -1].tolist() == [2.0**-level for level in range(1, 7)]


def test_a_jump_that_left_the_window_leaves_nothing(close):
    jumped = close.copy()
    jumped[:200] *= 1.1
    np.testing.assert_array_equal(energy_shares(close, 100, 3)[:, 330:], energy_shares(jumped, 100, 3)[:, 330:])
    np.testing.assert_array_equal(hurst(close, 100, LAGS)[330:], hurst(jumped, 100, LAGS)[330:])
