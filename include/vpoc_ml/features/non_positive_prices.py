"""Where a price at or below 0 leaves a feature without a value: it has no logarithm, and nothing is a share of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpoc_ml.features.registry import PriceLookback

Floats = NDArray[np.float64]


def positive(prices: Floats) -> Floats:
    """Return the prices, with 1 in place of those at or below 0: a stand-in whose results nobody keeps."""
    return np.where(prices <= 0, 1.0, prices) if (prices <= 0).any() else prices


def reads_non_positive(low: Floats, day: NDArray[np.int64], reach: PriceLookback) -> NDArray[np.bool_]:
    """Return True for the bars whose feature reads a price at or below 0.

    Args:
        low: (bars,) lowest price of each bar, oldest first, in any unit.
        day: (bars,) place of each bar's session among all, non-decreasing.
        reach: how far back the feature reads.
    """
    rows = np.arange(low.size)
    first = rows - reach.back if reach.unit == "bars" else np.searchsorted(day, day - reach.back)
    found = np.concatenate(([0], np.cumsum(low <= 0)))
    return np.asarray(found[rows + 1] > found[np.maximum(first, 0)])
