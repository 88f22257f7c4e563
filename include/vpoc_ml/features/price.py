"""Returns, ranges and oscillators of price."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.series import (
    RUN_IN,
    change_over,
    fixed_point,
    macd_histogram,
    ratio,
    rolling_extreme,
    rolling_score,
    wilder_rsi,
)

PRICE_BITS = 10
"""Fixed point of a past price in ticks. The variance of 20 prices fits in int64 up to 10 million ticks."""


def close_change_pct(x: Inputs) -> Floats:
    """Percent change of the close over one bar."""
    return np.asarray(100 * x.padded.own(x.padded.change) / positive(x.close_ago(1)), np.float64)


def price_range(x: Inputs) -> Floats:
    """High minus low in percent of the close."""
    return 100 * (x.high - x.low) / positive(x.close)


def price_mom_3d(x: Inputs) -> Floats:
    """Log return in percent since the close three sessions before."""
    return _since_session(x, 3)


def price_mom_5d(x: Inputs) -> Floats:
    """Log return in percent since the close five sessions before."""
    return _since_session(x, 5)


def price_mom_20d(x: Inputs) -> Floats:
    """Log return in percent since the close twenty sessions before."""
    return _since_session(x, 20)


def mom_15m(x: Inputs) -> Floats:
    """Log return of 15 bars in basis points."""
    return 1e4 * x.padded.own(change_over(x.padded.log_close, 15))


def mom_60m(x: Inputs) -> Floats:
    """Log return of 60 bars in basis points."""
    return 1e4 * x.padded.own(change_over(x.padded.log_close, 60))


def mom_sess(x: Inputs) -> Floats:
    """Log return in basis points since the session's open."""
    return 1e4 * (x.padded.own(x.padded.log_close) - x.of_session(np.log(positive(x.daily["open"]))))


def close_loc(x: Inputs) -> Floats:
    """Position of the close between low and high of its bar, 0 to 1; one half where they are equal."""
    return np.asarray(ratio(x.close - x.low, x.high - x.low, 0.5), np.float64)


def rsi_14(x: Inputs) -> Floats:
    """Wilder's RSI of 14 bars, 0 to 100, run from 390 bars before the session (Wilder 1978)."""
    bars = x.padded
    return bars.own_after(wilder_rsi(bars.close, bars.own_starts, 14), RUN_IN)


def macd_hist(x: Inputs) -> Floats:
    """MACD (12, 26) minus its signal line (9) in basis points of the close, run from 390 bars before the session."""
    bars = x.padded
    histogram = macd_histogram(bars.close, bars.own_starts, 12, 26, 9)
    return 1e4 * bars.own_after(histogram, RUN_IN) / positive(x.close)


def bb_z_20(x: Inputs) -> Floats:
    """Close minus its mean over 20 bars, in sample standard deviations of these bars; 0 where all are equal.

    The largest possible value is (n - 1) / sqrt(n), reached where all others are equal (Shiffler 1988).
    """
    return x.padded.own_after(rolling_score(fixed_point(x.padded.close, PRICE_BITS), 20), 19)


def donch_pos_60(x: Inputs) -> Floats:
    """Position of the close between the lowest low and the highest high of 60 bars, 0 to 1; one half if equal."""
    bars = x.padded
    high, low = rolling_extreme(bars.high, 60, np.maximum), rolling_extreme(bars.low, 60, np.minimum)
    return bars.own_after(ratio(bars.close - low, high - low, 0.5), 59)


def _since_session(x: Inputs, ago: int) -> Floats:
    """Return the log return in percent since the close ``ago`` sessions before."""
    return 100 * (x.padded.own(x.padded.log_close) - x.of_session(np.log(positive(x.daily["close"])), ago))
