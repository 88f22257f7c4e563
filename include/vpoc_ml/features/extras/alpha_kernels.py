"""Compiled windows of Alpha158. Every row reads its own window only, so no carried state can drift.

All functions take (rows,) float64 series, oldest first, and return (outputs, rows) float64 with NaN until the window is
full. All are in this file, because numba's cache on disk checks only the file of the compiled function.
"""

from __future__ import annotations

import numba
import numpy as np

from vpoc_ml.features.history import Floats


@numba.njit(cache=True, nogil=True)
def totals(values: Floats, bars: int) -> Floats:
    """Return the sum of each window, added up oldest first."""
    out = np.full(values.size, np.nan)
    for row in range(bars - 1, values.size):
        total = 0.0
        for at in range(row - bars + 1, row + 1):
            total += values[at]
        out[row] = total
    return out


@numba.njit(cache=True, nogil=True)
def trends(values: Floats, bars: int) -> Floats:
    """Return mean, standard deviation (n - 1), slope per bar, R squared and last residual of a line per window.

    Sums run over distances from the newest value, so the price level costs no digits and a flat window gives exact
    zeros. The R squared of a flat window is 0.
    """
    out = np.full((5, values.size), np.nan)
    middle, spread = (bars - 1) / 2, bars * (bars * bars - 1) / 12
    for row in range(bars - 1, values.size):
        start, newest, total = row - bars + 1, values[row], 0.0
        for at in range(bars):
            total += values[start + at] - newest
        mean, squares, cross = total / bars, 0.0, 0.0
        for at in range(bars):
            apart = values[start + at] - newest - mean
            squares += apart * apart
            cross += (at - middle) * apart
        slope = cross / spread
        out[0, row] = newest + mean
        out[1, row] = np.sqrt(squares / (bars - 1))
        out[2, row] = slope
        out[3, row] = min(slope * cross / squares, 1.0) if squares > 0 else 0.0
        out[4, row] = -mean - slope * middle
    return out


@numba.njit(cache=True, nogil=True)
def extremes(high: Floats, low: Floats, bars: int) -> Floats:
    """Return highest high, lowest low, and their positions in the window: 1 is the oldest bar, on ties the older."""
    out = np.full((4, high.size), np.nan)
    for row in range(bars - 1, high.size):
        top = bottom = row - bars + 1
        for at in range(row - bars + 2, row + 1):
            if high[at] > high[top]:
                top = at
            if low[at] < low[bottom]:
                bottom = at
        out[0, row], out[1, row] = high[top], low[bottom]
        out[2, row], out[3, row] = top - row + bars, bottom - row + bars
    return out


@numba.njit(cache=True, nogil=True)
def _quantile(ordered: Floats, share: float) -> float:
    place = share * (ordered.size - 1)
    below = int(place)
    above = min(below + 1, ordered.size - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


@numba.njit(cache=True, nogil=True)
def _replace(ordered: Floats, gone: float, new: float) -> None:
    """Replace ``gone`` by ``new`` in the ascending values, by moving the values between them."""
    at = np.searchsorted(ordered, gone)
    while at + 1 < ordered.size and ordered[at + 1] < new:
        ordered[at] = ordered[at + 1]
        at += 1
    while at > 0 and ordered[at - 1] > new:
        ordered[at] = ordered[at - 1]
        at -= 1
    ordered[at] = new


@numba.njit(cache=True, nogil=True)
def orders(values: Floats, bars: int, low: float, high: float) -> Floats:
    """Return the ``low`` and ``high`` quantiles (linear) and the mid-rank of the newest value over ``bars``.

    The sorted values of the window are carried along. They are values, not sums, so they cannot drift.
    """
    out = np.full((3, values.size), np.nan)
    if values.size < bars:
        return out
    ordered = np.sort(values[:bars])
    for row in range(bars - 1, values.size):
        if row >= bars:
            _replace(ordered, values[row - bars], values[row])
        less = np.searchsorted(ordered, values[row])
        equal = np.searchsorted(ordered, values[row], side="right") - less
        out[0, row], out[1, row] = _quantile(ordered, low), _quantile(ordered, high)
        out[2, row] = (less + (equal + 1) / 2) / bars
    return out


@numba.njit(cache=True, nogil=True)
def correlations(left: Floats, right: Floats, bars: int) -> Floats:
    """Return Pearson's correlation in each window; 0 where one side is constant."""
    out = np.full(left.size, np.nan)
    for row in range(bars - 1, left.size):
        start, total_l, total_r = row - bars + 1, 0.0, 0.0
        for at in range(start, row + 1):
            total_l += left[at] - left[row]
            total_r += right[at] - right[row]
        mean_l, mean_r = total_l / bars, total_r / bars
        ll, rr, lr = 0.0, 0.0, 0.0
        for at in range(start, row + 1):
            apart_l, apart_r = left[at] - left[row] - mean_l, right[at] - right[row] - mean_r
            ll += apart_l * apart_l
            rr += apart_r * apart_r
            lr += apart_l * apart_r
        scale = np.sqrt(ll * rr)
        out[row] = min(max(lr / scale, -1.0), 1.0) if scale > 0 else 0.0
    return out
