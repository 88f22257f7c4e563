"""Price-volume ratios of qlib's Alpha158 on minute bars, without a price level.

The formulas are those of ``Alpha158DL.get_feature_config`` in https://github.com/microsoft/qlib
(``qlib/contrib/data/loader.py``), with these differences. Windows count bars. A ratio of prices is given as
1e4 (ratio - 1) and a move over a price as 1e4 times it: basis points, which float32 resolves. A value that a flat
window or an empty bar leaves undefined is 0, and 0.5 for shares and positions, where qlib divides by 1e-12 or has no
value. A volume in a denominator is at least one contract. Left out as exact functions of another feature: OPEN0 (KMID),
SUMN and SUMD (SUMP), VSUMN and VSUMD (VSUMP), and RSV over 60 bars, which is ``donch_pos_60`` of the registry. VWAP0 is
left out too: bars have no VWAP, and with (H + L + C) / 3 in its place it equals KSFT.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.registry import ALPHA_WINDOWS

# ---------------------------------------------------------------- compiled windows
#
# Every row reads its own window only, so no carried state can drift. All kernels take (rows,) float64 series, oldest
# first, and return (outputs, rows) float64 with NaN until the window is full. All are in this file, because numba's
# cache on disk checks only the file of the compiled function.


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


# ---------------------------------------------------------------- features

LOW_QUANTILE, HIGH_QUANTILE = 0.2, 0.8


class Series(NamedTuple):
    """(rows,) float64 each, oldest first: prices in one unit, contracts traded."""

    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the shape of the bar, and price and volume over the last 5, 10, 20, 30 and 60 bars."""
    bars = x.full_history.pad(max(ALPHA_WINDOWS))
    series = Series(bars.high, bars.low, bars.close, bars.volume.astype(np.float64))
    found = bar_shapes(*(np.asarray(each, np.float64) for each in (x.open, x.high, x.low, x.close)))
    for length in ALPHA_WINDOWS:
        for name, values in rolling(series, length).items():
            found[f"{name}_{length}m"] = bars.own(values)
    del found["rsv_60m"]  # the same values as donch_pos_60
    return {f"alpha_{name}": values for name, values in found.items()}


def bar_shapes(opened: Floats, high: Floats, low: Floats, close: Floats) -> dict[str, Floats]:
    """Return qlib's k-bar and price features of each bar alone, by lower-case name."""
    span, top, bottom = high - low, np.maximum(opened, close), np.minimum(opened, close)
    moves = {"kmid": close - opened, "kup": high - top, "klow": bottom - low, "ksft": 2 * close - high - low}
    shapes = {name: 1e4 * move / positive(opened) for name, move in moves.items()}
    shapes |= {f"{name}2": _over(move, span) for name, move in moves.items()}
    levels = {"high0": 1e4 * (high - close) / positive(close), "low0": 1e4 * (low - close) / positive(close)}
    return shapes | {"klen": 1e4 * span / positive(opened)} | levels


def rolling(series: Series, bars: int) -> dict[str, Floats]:
    """Return qlib's rolling features of a window by lower-case name; NaN in the first ``bars`` rows at most."""
    close, volume = series.close, series.volume
    price = positive(close)

    highest, lowest, top, bottom = extremes(series.high, series.low, bars)
    mean, deviation, slope, fit, residual = trends(close, bars)
    low, high, rank = orders(close, bars, LOW_QUANTILE, HIGH_QUANTILE)
    ago = np.full(close.size, np.nan)
    ago[bars:] = close[:-bars]
    levels = {"roc": ago, "ma": mean, "max": highest, "min": lowest, "qtlu": high, "qtld": low}
    found = {name: 1e4 * (level - close) / price for name, level in levels.items()}
    moves = {"std": deviation, "beta": slope, "resi": residual}
    found |= {name: 1e4 * move / price for name, move in moves.items()}
    position = _over(close - lowest, highest - lowest, undefined=0.5)
    found |= {"rsqr": fit, "rank": rank, "rsv": position}
    found |= {"imax": top / bars, "imin": bottom / bars, "imxd": (top - bottom) / bars}

    steps = np.diff(close, prepend=close[:1])
    up, down = (_from_first_step(totals(each.astype(np.float64), bars), bars) / bars for each in (steps > 0, steps < 0))
    found |= {"cntp": up, "cntn": down, "cntd": up - down, "sump": _gain_share(steps, bars)}

    mean_volume, volume_deviation, *_ = trends(volume, bars)
    returns = price / np.concatenate((price[:1], price[:-1]))
    change = np.log(volume / np.maximum(np.concatenate((volume[:1], volume[:-1])), 1) + 1)
    mean_move, move_deviation, *_ = trends(np.abs(returns - 1) * volume, bars)
    return found | {
        "corr": correlations(close, np.log(volume + 1), bars),
        "cord": _from_first_step(correlations(returns, change, bars), bars),
        "vma": mean_volume / np.maximum(volume, 1),
        "vstd": volume_deviation / np.maximum(volume, 1),
        "wvma": _from_first_step(_over(move_deviation, mean_move), bars),
        "vsump": _gain_share(np.diff(volume, prepend=volume[:1]), bars),
    }


def _gain_share(steps: Floats, bars: int) -> Floats:
    gains, size = (_from_first_step(totals(each, bars), bars) for each in (np.maximum(steps, 0), np.abs(steps)))
    return _over(gains, size, undefined=0.5)


def _from_first_step(values: Floats, bars: int) -> Floats:
    """Set the one window that holds the first row to NaN: the change of that row is unknown."""
    return np.where(np.arange(values.size) >= bars, values, np.nan)


def _over(values: Floats, scale: Floats, undefined: float = 0.0) -> Floats:
    return np.where(scale == 0, undefined, values / np.where(scale == 0, 1.0, scale))
