"""Volume and the price it traded at."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs, window_sum
from vpoc_ml.profile.kernels import Ints

RATIO_BARS = 30


def vwap(x: Inputs) -> Floats:
    """Close against the session's VWAP so far, in basis points; 0 while the session has no volume.

    A bar's price is (H + L + C) / 3; the three are summed and divided once, so the sums stay integers.
    """
    volume = 3 * _of_session_so_far(x, x.volume)
    value = _of_session_so_far(x, (x.high + x.low + x.close) * x.volume)
    excess = 1e4 * (x.close * volume - value)
    return np.asarray(np.divide(excess, value, out=np.zeros(excess.size), where=volume > 0), np.float64)


def vol_ratio_30(x: Inputs) -> Floats:
    """Volume against the mean of the last 30 bars, itself included; 0 where none of them traded."""
    total, full = (x.own(part) for part in window_sum(x.long_volume, RATIO_BARS))
    ratio = np.divide(RATIO_BARS * x.volume, total, out=np.zeros(total.size, np.float64), where=total > 0)
    return np.where(full, ratio, np.nan)


def _of_session_so_far(x: Inputs, values: Ints) -> Ints:
    total = np.concatenate(([0], np.cumsum(values)))
    return total[1:] - total[x.first_bar]
