"""Prices at or below 0: they have no logarithm and no share, so features that read one have no value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpoc_ml.features.registry import PriceLookback

Floats = NDArray[np.float64]


def positive(prices: Floats) -> Floats:
    """Return the prices with 1 in place of those at or below 0. Results computed from the 1 become NaN later."""
    return np.where(prices <= 0, 1.0, prices) if (prices <= 0).any() else prices


def reads_non_positive(low: Floats, day: NDArray[np.int64], lookback: PriceLookback) -> NDArray[np.bool_]:
    """Return True for the bars whose feature reads a price at or below 0.

    Args:
        low: (bars,) lowest price of each bar, oldest first, in any unit.
        day: (bars,) number of each bar's session, non-decreasing.
        lookback: the prices that the feature reads.
    """
    rows = np.arange(low.size)
    first = rows - lookback.back if lookback.unit == "bars" else np.searchsorted(day, day - lookback.back)
    found = np.concatenate(([0], np.cumsum(low <= 0)))
    return np.asarray(found[rows + 1] > found[np.maximum(first, 0)])
