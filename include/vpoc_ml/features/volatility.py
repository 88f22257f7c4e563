"""Realised volatility, scaled to a day of 1380 minutes."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs, window_sum

DAY_MINUTES = 1380
_ONE = 2.0**54
"""Fixed point of a squared return: one tick of ES keeps 7 digits, and 390 returns of e (the cap) still fit.

Integer sums are exact: a flat window gives 0, and nothing remains of a jump that has left it.
"""


def rv_30(x: Inputs) -> Floats:
    """Realised volatility of the last 30 returns, percent a day."""
    return _realised(x, 30)


def rv_390(x: Inputs) -> Floats:
    """Realised volatility of the last 390 returns, percent a day."""
    return _realised(x, 390)


def _realised(x: Inputs, bars: int) -> Floats:
    close = x.long_close
    returns = np.zeros(close.size)
    returns[1:] = np.log(close[1:] / close[:-1])
    squares = np.rint(np.minimum(returns**2, 1.0) * _ONE).astype(np.int64)
    total, full = window_sum(squares, bars, first=1)
    values = np.where(full, 100 * np.sqrt(DAY_MINUTES * (total / _ONE) / bars), np.nan)
    return x.own(values)
