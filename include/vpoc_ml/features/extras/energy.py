"""Exact sums of squares over windows, shared by the families hurst and wavelet."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.windows import rolling_sum

ENERGY_UNIT = 2.0**58
LARGEST_ENERGY = 2.0**-4
"""Fixed point of a square and the largest square: 500 of them fit in an int64, and 1/64 tick is resolved."""


def rolling_energy(values: Floats, bars: int, *, first: int) -> Floats:
    """Return the sum of squares of the last ``bars`` values; NaN before the window is full.

    The sum is exact in fixed point, so it does not depend on where the series begins.

    Args:
        values: (rows,) log returns or averages of them. A square counts as at most 1/16.
        bars: up to 500.
        first: rows at the start that have no value.
    """
    squares = np.zeros(values.size, np.int64)
    squares[first:] = np.rint(np.minimum(values[first:] ** 2, LARGEST_ENERGY) * ENERGY_UNIT).astype(np.int64)
    total = rolling_sum(squares, bars) / ENERGY_UNIT
    total[: first + bars - 1] = np.nan
    return np.asarray(total, np.float64)
