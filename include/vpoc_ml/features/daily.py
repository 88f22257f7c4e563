"""Volatility from completed sessions: arrays with one entry per session in and out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.series import lagged
from vpoc_ml.features.windows import sums_before

ATR_SESSIONS = 14
YANG_ZHANG_SESSIONS = 20
DAYS_A_YEAR = 252
LEAST_YEARLY = 0.1
"""Smallest volatility, percent per year."""


def mean_range_before(daily: Mapping[str, Floats]) -> Floats:
    """Return the mean true range of the 14 sessions before each, at least 1 tick; NaN before the 15th.

    Args:
        daily: open, high, low and close of each session in ticks, oldest first.
    """
    high, low, close = daily["high"], daily["low"], daily["close"]
    before = np.concatenate((close[:1], close[:-1]))  # the first session has only its own range
    true_range = np.maximum(high, before) - np.minimum(low, before)
    return np.asarray(np.maximum(sums_before(true_range, ATR_SESSIONS) / ATR_SESSIONS, 1.0), np.float64)


def yang_zhang_before(daily: Mapping[str, Floats]) -> Floats:
    """Return the Yang-Zhang volatility of the 20 sessions before each, percent per year; NaN before the 22nd.

    The result is at least 0.1. The docstring of feature ``yz_20d`` states the formula.

    Args:
        daily: as for ``mean_range_before``.
    """
    n = YANG_ZHANG_SESSIONS
    opened, high, low, close = (np.log(positive(daily[name])) for name in ("open", "high", "low", "close"))
    inside = (high - opened) * (high - close) + (low - opened) * (low - close)
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    overnight, session = (_variance_before(values, n) for values in (opened - lagged(close, 1), close - opened))
    variance = overnight + k * session + (1 - k) * sums_before(inside, n) / n
    return np.asarray(np.maximum(100 * np.sqrt(DAYS_A_YEAR * variance), LEAST_YEARLY), np.float64)


def _variance_before(values: Floats, count: int) -> Floats:
    """Return the sample variance of the ``count`` entries before each."""
    mean = sums_before(values, count) / count
    deviations = sum(((lagged(values, ago) - mean) ** 2 for ago in range(1, count + 1)), np.zeros(values.size))
    return deviations / (count - 1)
