"""Lags, changes and windows of series, oldest row first. Results do not depend on where a series begins."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.features.history import Floats


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
