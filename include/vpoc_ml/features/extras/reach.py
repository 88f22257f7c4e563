"""How far back the windows of a family look, and exact sums over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpoc_ml.features.inputs import Floats, Inputs
from vpoc_ml.features.windows import rolling_sum
from vpoc_ml.profile.kernels import Ints

ONE = 2.0**58
LARGEST = 2.0**-4
"""Fixed point of a square, and the largest one: 500 of them fit into an int64, and a 64th of a tick counts."""


def recent(x: Inputs, name: str, bars: int) -> Floats:
    """Return the last ``bars`` values of the past, then those of the bars, as float64."""
    past = getattr(x.past.bars, name)
    return np.concatenate((past[max(past.size - bars, 0) :], getattr(x, name))).astype(np.float64)


def energy(values: Floats, bars: int, *, first: int) -> Floats:
    """Return the sum of squares of the last ``bars`` values; NaN before the window is full.

    Exact in fixed point, so a sum does not depend on where the series begins.

    Args:
        values: (rows,) log returns or averages of them; a square counts as 1/16 at most.
        bars: up to 500.
        first: rows at the start that have no value.
    """
    squares = np.zeros(values.size, np.int64)
    squares[first:] = np.rint(np.minimum(values[first:] ** 2, LARGEST) * ONE).astype(np.int64)
    total = rolling_sum(squares, bars) / ONE
    total[: first + bars - 1] = np.nan
    return np.asarray(total, np.float64)


def day_starts(day: NDArray[np.generic]) -> Ints:
    """Return the first row of each run of equal days and, last, the number of rows.

    Args:
        day: (rows,) each bar's session, non-decreasing.
    """
    edges = np.flatnonzero(day[1:] != day[:-1]) + 1
    return np.concatenate(([0], edges, [day.size])).astype(np.int64)
