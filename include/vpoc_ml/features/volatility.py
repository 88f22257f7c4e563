"""Realised volatility: of bars, scaled to a day of 1380 minutes, and of the sessions before."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.clock import SESSION_MINUTES
from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.series import SQUARE_BITS, fixed_point, fixed_squares, ratio, rolling_sum, sums_before

LEAST_VARIANCE = 1e-4
"""Smallest variance of a session in percent^2 (a move of a hundredth of a percent), so that its logarithm is finite."""


def rv_30(x: Inputs) -> Floats:
    """Realised volatility of the last 30 returns, percent per day."""
    return x.padded.own_after(_daily(x.padded.square_sum_30, 30), 30)


def rv_390(x: Inputs) -> Floats:
    """Realised volatility of the last 390 returns, percent per day."""
    return x.padded.own_after(_daily(x.padded.square_sum_390, 390), 390)


def rv_ratio_30_390(x: Inputs) -> Floats:
    """Realised volatility of the last 30 returns over that of the last 390; 1 where none of them moved."""
    sums = ratio(x.padded.square_sum_30, x.padded.square_sum_390, 30 / 390)
    return x.padded.own_after(np.sqrt(390 / 30 * sums), 390)


def bpv_ratio_390(x: Inputs) -> Floats:
    """Bipower variation over realised variance of 390 returns: about 1 without jumps, 1 where nothing moved.

    (pi / 2) sum |r_i r_(i-1)| / sum r_i^2, with both returns of a product in the window (Barndorff-Nielsen and
    Shephard 2004). The window has one product fewer than returns. The sum is not scaled up for it, so the ratio is at
    most pi / 2.
    """
    size = np.minimum(np.abs(x.padded.log_return), 1.0)
    products = np.zeros(size.size)
    np.multiply(size[1:], size[:-1], out=products[1:])
    bipower = rolling_sum(fixed_point(products, SQUARE_BITS), 389)
    return x.padded.own_after(np.pi / 2 * ratio(bipower, x.padded.square_sum_390, 2 / np.pi), 390)


def semivar_ratio_390(x: Inputs) -> Floats:
    """Share of negative returns in the realised variance of 390 returns, 0 to 1; one half where nothing moved."""
    falling = rolling_sum(x.padded.squares * (x.padded.log_return < 0), 390)
    return x.padded.own_after(ratio(falling, x.padded.square_sum_390, 0.5), 390)


def har_d(x: Inputs) -> Floats:
    """Log of the realised variance of the session before, percent^2 (Corsi 2009)."""
    return _log_variance_before(x, 1)


def har_w(x: Inputs) -> Floats:
    """Log of the mean realised variance of the 5 sessions before, percent^2."""
    return _log_variance_before(x, 5)


def har_m(x: Inputs) -> Floats:
    """Log of the mean realised variance of the 22 sessions before, percent^2."""
    return _log_variance_before(x, 22)


def park_60(x: Inputs) -> Floats:
    """Volatility from the ranges of 60 bars, percent per day: mean ln(H/L)^2 / (4 ln 2) (Parkinson 1980)."""
    squares = fixed_squares(np.log(positive(x.padded.high) / positive(x.padded.low)))
    return x.padded.own_after(_daily(rolling_sum(squares, 60), 60) / float(np.sqrt(4 * np.log(2))), 59)


def yz_20d(x: Inputs) -> Floats:
    """Volatility of the 20 sessions before from open, high, low and close, percent per year, at least 0.1.

    Overnight variance + k open-to-close variance + (1 - k) Rogers-Satchell, k = 0.34 / (1.34 + (n + 1) / (n - 1))
    (Yang and Zhang 2000, "Drift-independent volatility estimation").
    """
    return x.of_session(x.yang_zhang)


def _daily(squares: Floats, bars: int) -> Floats:
    """Return percent per day, given the sum of the squares of ``bars`` returns in fixed point."""
    return np.asarray(np.sqrt(squares * (1e4 * SESSION_MINUTES / bars / 2.0**SQUARE_BITS)), np.float64)


def _log_variance_before(x: Inputs, sessions: int) -> Floats:
    mean = sums_before(x.variance, sessions) / sessions
    return x.of_session(np.log(np.maximum(mean, LEAST_VARIANCE)))
