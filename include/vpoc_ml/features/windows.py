"""Compiled loops over rows for what numpy has no function for.

A value depends on the rows of its window only, to the last bit: moments are sums of integers, and recursions begin
anew at every session, a fixed number of bars before it. All kernels live in this file, because numba's cache on disk
looks only at the file of the function it compiled.
"""

from __future__ import annotations

import numba
import numpy as np

from vpoc_ml.features.history import Floats, Ints

RUN_IN = 390
"""Bars a recursion runs before its session: what lies before them would weigh (13/14)^390 = 3e-13 in the RSI."""


@numba.njit(cache=True, nogil=True)
def rolling_sum(values: Ints, bars: int) -> Floats:
    """Return the sum of the last ``bars`` values of every row, of all so far where there are fewer.

    Added in int64, so it is exact; given as float64, rounded once above 2**53.
    """
    found = np.empty(values.size, np.float64)
    total = 0
    for row in range(values.size):
        total += values[row]
        if row >= bars:
            total -= values[row - bars]
        found[row] = total
    return found


@numba.njit(cache=True, nogil=True)
def sum_within(values: Ints, starts: Ints) -> Ints:
    """Return the sum over every row and those before it in its session; ``starts`` end with the number of rows."""
    found = np.empty(values.size, np.int64)
    for session in range(starts.size - 1):
        total = 0
        for row in range(starts[session], starts[session + 1]):
            total += values[row]
            found[row] = total
    return found


@numba.njit(cache=True, nogil=True)
def sum_of_rows_before(grid: Ints, count: int) -> Ints:
    """Return, column by column, the sum over the ``count`` rows before each, over fewer where there are no more."""
    found = np.zeros(grid.shape, np.int64)
    for row in range(1, grid.shape[0]):
        for column in range(grid.shape[1]):
            found[row, column] = found[row - 1, column] + grid[row - 1, column]
            if row > count:
                found[row, column] -= grid[row - 1 - count, column]
    return found


@numba.njit(cache=True, nogil=True)
def scores_of_rows_before(grid: Ints, counted: Ints, rows: int, enough: int, least: float) -> Floats:
    """Return how far each entry of a grid lies above the mean of its column in the ``rows`` rows before, in deviations.

    Sample standard deviations, of at least ``least`` in the unit of ``grid``. ``counted`` is 1 where an entry counts,
    which holds 0 elsewhere; 0 is given where fewer than ``enough`` count. Sums are of integers, so they are exact.
    """
    found = np.zeros(grid.shape, np.float64)
    count, total, squares = np.zeros((3, grid.shape[1]), np.int64)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            n, value = count[column], grid[row, column]
            if n >= enough:
                varied = max(n * squares[column] - total[column] ** 2, 0)
                found[row, column] = (value - total[column] / n) / max(np.sqrt(varied / (n * (n - 1))), least)
            count[column] += counted[row, column]
            total[column] += value
            squares[column] += value * value
            if row >= rows:
                gone = grid[row - rows, column]
                count[column] -= counted[row - rows, column]
                total[column] -= gone
                squares[column] -= gone * gone
    return found


@numba.njit(cache=True, nogil=True)
def rolling_moments(first: Ints, second: Ints, bars: int) -> Floats:
    """Return ``n^2`` times variance, variance and covariance of the last n = ``bars`` values, shape (3, rows).

    ``n sum(ab) - sum(a) sum(b)`` in int64: the terms may wrap around, their difference is exact as long as it fits,
    and is given as float64.
    Rows before the first whole window hold the moments of zeros and the values so far.
    """
    found = np.empty((3, first.size), np.float64)
    a, b, aa, bb, ab = 0, 0, 0, 0, 0
    for row in range(first.size):
        x, y = first[row], second[row]
        a, b, aa, bb, ab = a + x, b + y, aa + x * x, bb + y * y, ab + x * y
        if row >= bars:
            x, y = first[row - bars], second[row - bars]
            a, b, aa, bb, ab = a - x, b - y, aa - x * x, bb - y * y, ab - x * y
        found[0, row], found[1, row], found[2, row] = bars * aa - a * a, bars * bb - b * b, bars * ab - a * b
    return found


@numba.njit(cache=True, nogil=True)
def wilder_rsi(close: Floats, starts: Ints, bars: int) -> Floats:
    """Return Wilder's RSI, 0..100: smoothed gains in percent of smoothed gains and losses; 50 while both are zero.

    Args:
        close: float64 closes in ticks, oldest first.
        starts: first row of each session, then the number of rows; rows before the first session are only read.
        bars: Wilder's period: a change enters with weight 1 / bars.

    Both averages begin with zero ``RUN_IN`` bars before a session; their ratio needs no other start. NaN in sessions
    with fewer bars before them.
    """
    found = np.full(close.size, np.nan)
    for session in range(starts.size - 1):
        opened = starts[session]
        if opened < RUN_IN:
            continue
        gain, loss = 0.0, 0.0
        for row in range(opened - RUN_IN + 1, starts[session + 1]):
            change = close[row] - close[row - 1]
            gain += (max(change, 0.0) - gain) / bars
            loss += (max(-change, 0.0) - loss) / bars
            if row >= opened:
                found[row] = 100 * gain / (gain + loss) if gain + loss > 0 else 50.0
    return found


@numba.njit(cache=True, nogil=True)
def macd_histogram(close: Floats, starts: Ints, fast: int, slow: int, signal: int) -> Floats:
    """Return MACD minus its signal line, in the unit of ``close``: EMA(fast) - EMA(slow) - EMA(signal) of that.

    An EMA of n bars weighs the newest value 2 / (n + 1). ``starts`` as for ``wilder_rsi``; the averages begin with the
    close, the signal line with zero, ``RUN_IN`` bars before a session. NaN in sessions with fewer bars before them.
    """
    found = np.full(close.size, np.nan)
    for session in range(starts.size - 1):
        opened = starts[session]
        if opened < RUN_IN:
            continue
        quick = lazy = close[opened - RUN_IN]
        line = 0.0
        for row in range(opened - RUN_IN + 1, starts[session + 1]):
            quick += (close[row] - quick) * (2 / (fast + 1))
            lazy += (close[row] - lazy) * (2 / (slow + 1))
            line += (quick - lazy - line) * (2 / (signal + 1))
            if row >= opened:
                found[row] = quick - lazy - line
    return found
