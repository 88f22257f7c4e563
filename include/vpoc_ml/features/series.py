"""Arithmetic on series of bars, oldest row first: lags, quotients, fixed point, rolling windows, recursions.

A value depends only on the rows of its window, to the last bit, so results do not depend on where a series begins.
Moments are sums of integers in fixed point, and a recursion restarts a fixed number of bars before every session.

Loops are compiled where numpy would write and read an array at every step. All kernels are in this file, because
numba's cache on disk checks only the file of the compiled function. Kernels that divide use ``error_model="numpy"``:
with Python's rules every division is checked and no loop is vectorised.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.features.history import Floats, Ints


def lagged(values: NDArray[np.generic], bars: int) -> Floats:
    """Return the value ``bars`` rows earlier, NaN where there was none."""
    earlier = np.empty(values.size)
    earlier[:bars] = np.nan
    earlier[bars:] = values[: max(values.size - bars, 0)]
    return earlier


def change_over(values: Floats, bars: int) -> Floats:
    """Return each value minus the one ``bars`` rows earlier, NaN where there was none."""
    change = np.empty(values.size)
    change[:bars] = np.nan
    np.subtract(values[bars:], values[:-bars], out=change[bars:])
    return change


def rolling_extreme(values: Floats, bars: int, extreme: np.ufunc) -> Floats:
    """Return the extreme of the last ``bars`` values at every row, of all values so far where there are fewer.

    The extreme of 2n rows is the extreme of two extremes of n rows, so 60 bars take six passes.

    Args:
        values: (rows,), oldest first.
        bars: length of the window.
        extreme: ``np.maximum`` or ``np.minimum``.
    """
    found, spare, width = values.copy(), np.empty_like(values), 1
    while width < bars:
        step = min(width, bars - width)
        spare[:step] = found[:step]
        extreme(found[step:], found[:-step], out=spare[step:])
        found, spare, width = spare, found, width + step
    return found


def when_published(ts: NDArray[np.int64], known: NDArray[np.int64], by_count: Floats) -> Floats:
    """Return, for every bar, the entry of ``by_count`` for the number of values published strictly before it.

    Args:
        ts: (bars,) start of each bar, microseconds UTC.
        known: (values,) time of each publication, non-decreasing, microseconds UTC.
        by_count: (values + 1,) the entry after no, one, two, ... publications.
    """
    first = np.searchsorted(ts, known, side="right")  # for each value, the first bar that starts after it
    return np.repeat(by_count, np.diff(first, prepend=0, append=ts.size))


def dates_before(values: Floats, dates: pl.Series, ago: int = 5) -> Floats:
    """Return, for each value, the last value of the date ``ago`` dates before.

    The result is indexed by the number of published values, as ``when_published`` takes it.
    """
    date = dates.rle_id().to_numpy()
    last = np.flatnonzero(np.append(date[1:] != date[:-1], values.size > 0))  # row of each date's last value
    old = np.flatnonzero(date >= ago)
    found = np.full(values.size + 1, np.nan)
    found[old + 1] = values[last[date[old] - ago]]
    return found


SQUARE_BITS = 54
"""Fixed point of a squared return: one tick of ES keeps 7 digits, and 390 squares of 1 (the maximum) still fit.

Integer sums are exact: a flat window gives 0, and a jump that has left the window leaves no rest.
"""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def ratio(numerator: NDArray[Any], denominator: NDArray[Any], otherwise: float) -> Floats:
    """Return the quotient of two arrays, and ``otherwise`` where the denominator is 0."""
    found = np.empty(numerator.size, np.float64)
    for row in range(numerator.size):
        found[row] = numerator[row] / denominator[row] if denominator[row] != 0 else otherwise
    return found


@numba.njit(cache=True, nogil=True)
def fixed_point(values: Floats, bits: int) -> Ints:
    """Return the values in multiples of ``2**-bits``. Their sums are exact in any order and from any start."""
    found, one = np.empty(values.size, np.int64), 2.0**bits
    for row in range(values.size):
        found[row] = np.int64(np.rint(values[row] * one))
    return found


def fixed_squares(returns: Floats) -> Ints:
    """Return the squares, each at most 1, in fixed point of ``SQUARE_BITS``."""
    return np.asarray(fixed_point(np.minimum(returns * returns, 1.0), SQUARE_BITS), np.int64)


RUN_IN = 390
"""Bars a recursion runs before its session. Earlier bars would have a weight of (13/14)^390 = 3e-13 in the RSI."""


@numba.njit(cache=True, nogil=True)
def rolling_sum(values: Ints, bars: int) -> Floats:
    """Return the sum of the last ``bars`` values at every row, of all values so far where there are fewer.

    Sums are int64 and exact. The float64 results are rounded once above 2**53.
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
def sums_before(values: Floats, count: int) -> Floats:
    """Return the sum of the ``count`` entries before each, NaN where there are fewer.

    The entries are always added in the same order. A running sum of fractions would depend on where it began.
    """
    found = np.empty(values.size, np.float64)
    for row in range(values.size):
        total = 0.0 if row >= count else np.nan
        for earlier in range(max(row - count, 0), row):
            total += values[earlier]
        found[row] = total
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def above_vwap(price: Ints, close: Floats, volume: Ints, starts: Ints, least: float) -> Floats:
    """Return the distance of each close above the VWAP of its session so far: as a share of it, and in deviations.

    Shape (2, rows); 0 while the session has no volume. Sums are of integers, so they are exact. Squares are taken from
    the session's first close, which keeps them small.

    Args:
        price: prices at which the bars traded, in thirds of a tick.
        close: closes in ticks.
        volume: contracts.
        starts: first row of each session, then the number of rows.
        least: smallest volume-weighted standard deviation, in thirds of a tick.
    """
    found = np.empty((2, price.size), np.float64)
    for session in range(starts.size - 1):
        first = np.int64(3 * close[starts[session]])
        total, value, squares = 0, 0, 0
        for row in range(starts[session], starts[session + 1]):
            above = price[row] - first
            total += volume[row]
            value += price[row] * volume[row]
            squares += above * above * volume[row]
            mean = (value - first * total) / total
            deviation = np.sqrt(max(squares / total - mean * mean, least * least))
            found[0, row] = (3 * close[row] * total - value) / value if value != 0 else 0.0
            found[1, row] = (3 * close[row] - first - mean) / deviation if total > 0 else 0.0
    return found


@numba.njit(forceinline=True)
def _move(grid: Ints, spans: Ints, row: int, rows: int, sums: Ints) -> None:
    """Add a row to count, sum and squares of the columns in its span, and subtract the row ``rows`` before it."""
    for at, sign in ((row, 1), (row - rows, -1)):
        if at >= 0:
            for column in range(spans[at, 0], spans[at, 1] + 1):
                sums[0, column] += sign
                sums[1, column] += sign * grid[at, column]
                sums[2, column] += sign * grid[at, column] * grid[at, column]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def ratios_to_rows_before(grid: Ints, spans: Ints, rows: int, enough: int) -> Floats:
    """Return each entry of a grid over the mean of its column in the ``rows`` rows before; 1 where that is 0.

    ``spans`` holds the first and the last column of each row that count. The value is 1 where fewer than ``enough``
    rows count, and NaN in the first ``rows`` rows.
    """
    found = np.empty(grid.shape, np.float64)
    found[:rows] = np.nan
    sums = np.zeros((3, grid.shape[1]), np.int64)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1] if row >= rows else 0):
            n, total = sums[0, column], sums[1, column]
            found[row, column] = n * grid[row, column] / total if n >= enough and total != 0 else 1.0
        _move(grid, spans, row, rows, sums)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def scores_of_rows_before(grid: Ints, spans: Ints, rows: int, enough: int, least: float) -> Floats:
    """Return the score of each entry of a grid against its column in the ``rows`` rows before.

    The score is the distance from the mean in sample standard deviations, of at least ``least`` in the unit of
    ``grid``. ``spans`` as for ``ratios_to_rows_before``. The score is 0 where fewer than ``enough`` rows count, and NaN
    in the first ``rows`` rows. Sums are of integers, so they are exact.
    """
    found = np.empty(grid.shape, np.float64)
    found[:rows] = np.nan
    sums = np.zeros((3, grid.shape[1]), np.int64)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1] if row >= rows else 0):
            n, total, squares = sums[0, column], sums[1, column], sums[2, column]
            varied = max(n * squares - total * total, 0)
            deviation = max(np.sqrt(varied / (n * (n - 1))), least)
            found[row, column] = (grid[row, column] - total / n) / deviation if n >= enough else 0.0
        _move(grid, spans, row, rows, sums)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rolling_score(values: Ints, bars: int) -> Floats:
    """Return the distance of each value from the mean of the last n = ``bars``, in their sample standard deviations.

    0 where all are equal. ``n sum(aa) - sum(a)^2`` is computed in int64: the terms may wrap around, but their
    difference is exact as long as it fits. Rows before the first full window read zeros before the values.
    """
    found, of_sample = np.empty(values.size, np.float64), np.sqrt((bars - 1) / bars)
    a, aa = 0, 0
    for row in range(values.size):
        x = values[row]
        a, aa = a + x, aa + x * x
        if row >= bars:
            gone = values[row - bars]
            a, aa = a - gone, aa - gone * gone
        varied = bars * aa - a * a
        found[row] = of_sample * ((bars * x - a) / np.sqrt(varied)) if varied != 0 else 0.0
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rolling_slope(first: Ints, second: Ints, bars: int) -> Floats:
    """Return the slope of ``first`` on ``second`` over the last ``bars`` rows, 0 where ``second`` does not vary.

    Sums as for ``rolling_score``.
    """
    found = np.empty(first.size, np.float64)
    a, b, bb, ab = 0, 0, 0, 0
    for row in range(first.size):
        x, y = first[row], second[row]
        a, b, bb, ab = a + x, b + y, bb + y * y, ab + x * y
        if row >= bars:
            x, y = first[row - bars], second[row - bars]
            a, b, bb, ab = a - x, b - y, bb - y * y, ab - x * y
        varied = bars * bb - b * b
        found[row] = (bars * ab - a * b) / varied if varied != 0 else 0.0
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rolling_correlation(first: Ints, second: Ints, bars: int) -> Floats:
    """Return the correlation of two series over the last ``bars`` rows, 0 where one of them does not vary.

    Sums as for ``rolling_score``.
    """
    found = np.empty(first.size, np.float64)
    a, b, aa, bb, ab = 0, 0, 0, 0, 0
    for row in range(first.size):
        x, y = first[row], second[row]
        a, b, aa, bb, ab = a + x, b + y, aa + x * x, bb + y * y, ab + x * y
        if row >= bars:
            x, y = first[row - bars], second[row - bars]
            a, b, aa, bb, ab = a - x, b - y, aa - x * x, bb - y * y, ab - x * y
        varied = np.sqrt(bars * aa - a * a) * np.sqrt(bars * bb - b * b)
        found[row] = (bars * ab - a * b) / varied if varied != 0 else 0.0
    return found


@numba.njit(cache=True, nogil=True)
def wilder_rsi(close: Floats, starts: Ints, bars: int) -> Floats:
    """Return Wilder's RSI, 0..100: smoothed gains in percent of smoothed gains and losses; 50 while both are zero.

    Args:
        close: float64 closes in ticks, oldest first.
        starts: first row of each session, then the number of rows. Rows before the first session are only read.
        bars: Wilder's period: a change enters with weight 1 / bars.

    Both averages begin with zero ``RUN_IN`` bars before a session, which their ratio allows. NaN in sessions with fewer
    bars before them.
    """
    found = np.empty(close.size, np.float64)
    found[:] = np.nan
    entered = 1 / bars
    kept = 1 - entered  # weights as factors: a division in the recursion would double the latency of a step
    for session in range(starts.size - 1):
        opened = starts[session]
        if opened < RUN_IN:
            continue
        gain, loss = 0.0, 0.0
        for row in range(opened - RUN_IN + 1, starts[session + 1]):
            change = close[row] - close[row - 1]
            gain = gain * kept + max(change, 0.0) * entered
            loss = loss * kept + max(-change, 0.0) * entered
            if row >= opened:
                found[row] = 100 * gain / (gain + loss) if gain + loss > 0 else 50.0
    return found


@numba.njit(cache=True, nogil=True)
def macd_histogram(close: Floats, starts: Ints, fast: int, slow: int, signal: int) -> Floats:
    """Return MACD minus its signal line, in the unit of ``close``: EMA(fast) - EMA(slow) - EMA(signal) of that.

    The newest value of an EMA of n bars has weight 2 / (n + 1). ``starts`` as for ``wilder_rsi``. ``RUN_IN`` bars
    before a session the averages begin with the close and the signal line with zero. NaN in sessions with fewer bars
    before them.
    """
    found = np.empty(close.size, np.float64)
    found[:] = np.nan
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
