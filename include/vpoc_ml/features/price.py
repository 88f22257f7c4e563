"""Returns and ranges."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.pointwise import fixed_point, ratio
from vpoc_ml.features.series import change_over, rolling_extreme
from vpoc_ml.features.windows import RUN_IN, macd_histogram, rolling_score, wilder_rsi

PRICE_BITS = 10
"""Fixed point of a past price in ticks; the variance of 20 such prices fits while they stay within 10 million ticks."""


def close_change_pct(x: Inputs) -> Floats:
    """Percent change of the close over one bar."""
    return np.asarray(100 * x.own(x.long_change) / positive(x.close_ago(1)), np.float64)


def price_range(x: Inputs) -> Floats:
    """High minus low in percent of the close."""
    return 100 * (x.high - x.low) / positive(x.close)


def price_mom_3d(x: Inputs) -> Floats:
    """Log return in percent since the close of the session three before."""
    return _since_session(x, 3)


def price_mom_5d(x: Inputs) -> Floats:
    """Log return in percent since the close of the session five before."""
    return _since_session(x, 5)


def price_mom_20d(x: Inputs) -> Floats:
    """Log return in percent since the close of the session twenty before."""
    return _since_session(x, 20)


def mom_15m(x: Inputs) -> Floats:
    """Log return of 15 bars in basis points."""
    return 1e4 * _log_return(x, 15)


def mom_60m(x: Inputs) -> Floats:
    """Log return of 60 bars in basis points."""
    return 1e4 * _log_return(x, 60)


def mom_sess(x: Inputs) -> Floats:
    """Log return in basis points since the session's open."""
    return 1e4 * (x.own(x.long_log) - x.of_session(np.log(positive(x.daily["open"]))))


def close_loc(x: Inputs) -> Floats:
    """Where the close lies between low and high of its bar, 0 to 1; one half where they are equal."""
    return np.asarray(ratio(x.close - x.low, x.high - x.low, 0.5), np.float64)


def rsi_14(x: Inputs) -> Floats:
    """Wilder's RSI of 14 bars, 0 to 100, run from 390 bars before the session (Wilder 1978)."""
    return x.after_window(wilder_rsi(x.long_close, x.long_starts, 14), RUN_IN)


def macd_hist(x: Inputs) -> Floats:
    """MACD (12, 26) minus its signal line (9) in basis points of the close, run from 390 bars before the session."""
    histogram = macd_histogram(x.long_close, x.long_starts, 12, 26, 9)
    return 1e4 * x.after_window(histogram, RUN_IN) / positive(x.close)


def bb_z_20(x: Inputs) -> Floats:
    """Close minus its mean over 20 bars, in their sample standard deviations; 0 where they are all equal.

    The largest possible is (n - 1) / sqrt(n): all others equal (Shiffler 1988).
    """
    return x.after_window(rolling_score(fixed_point(x.long_close, PRICE_BITS), 20), 19)


def donch_pos_60(x: Inputs) -> Floats:
    """Where the close lies between the lowest low and the highest high of 60 bars, 0 to 1; one half if equal."""
    high, low = rolling_extreme(x.long_high, 60, np.maximum), rolling_extreme(x.long_low, 60, np.minimum)
    return x.after_window(ratio(x.long_close - low, high - low, 0.5), 59)


def _since_session(x: Inputs, ago: int) -> Floats:
    return 100 * (x.own(x.long_log) - x.of_session(np.log(positive(x.daily["close"])), ago))


def _log_return(x: Inputs, bars: int) -> Floats:
    return x.own(change_over(x.long_log, bars))
