"""Volume, the price it traded at, and what it moved."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs
from vpoc_ml.features.minutes import DAY
from vpoc_ml.features.series import fixed_point, ratio
from vpoc_ml.features.windows import rolling_moments, rolling_sum, scores_of_rows_before, sum_of_rows_before
from vpoc_ml.profile.kernels import Ints

RATIO_BARS = 30
TOD_SESSIONS = 20
ENOUGH_SESSIONS = 5
"""Sessions that must have traded around a minute before one is measured against them."""
LEAST_LOG_SD = 0.25
"""Standard deviation of a minute's log volume counts at least this much."""
CHANGE_BITS, LOG_BITS = 14, 20
LARGEST_CHANGE = 2.0**12
"""Ticks a close changes at most where moments are taken, 1024 points of ES: products of 60 rows fit in int64."""
LARGEST_LAMBDA = 1000
LARGEST_Z = 10
ILLIQUIDITY_BITS, LARGEST_ILLIQUIDITY, LEAST_ILLIQUIDITY = 38, 1e5, 1e-4
"""Fixed point of one bar's basis points a million dollars, their most, and the least of a mean."""


def vwap(x: Inputs) -> Floats:
    """Close against the session's VWAP so far, in basis points; 0 while the session has no volume.

    A bar's price is (H + L + C) / 3; the three are summed and divided once, so the sums stay integers.
    """
    return 1e4 * ratio(3 * x.close * x.volume_so_far - x.value_so_far, x.value_so_far, 0.0)


def vwap_z(x: Inputs) -> Floats:
    """Close minus the session's VWAP so far, in volume-weighted standard deviations of at least one tick.

    Clipped to +-10: in a session's first bars the deviation is small by chance. 0 while the session has no volume.
    Thirds of a tick from the session's first close keep the sums whole and small.
    """
    first, volume = x.at_open(x.close), x.volume_so_far
    price = x.three_prices - 3 * first
    mean = ratio(x.value_so_far - 3 * first * volume, volume, 0.0)
    variance = ratio(x.so_far(price * price * x.volume), volume, 0.0) - mean**2
    deviation = (3 * (x.close - first) - mean) / np.sqrt(np.maximum(variance, 9.0))
    deviation[volume == 0] = 0
    return np.clip(deviation, -LARGEST_Z, LARGEST_Z)


def vol_ratio_30(x: Inputs) -> Floats:
    """Volume against the mean of the last 30 bars, itself included; 0 where none of them traded."""
    total = rolling_sum(x.long_volume, RATIO_BARS)
    return x.after_window(ratio(RATIO_BARS * x.long_volume, total, 0.0), RATIO_BARS - 1)


def vol_z_tod(x: Inputs) -> Floats:
    """Log volume against the same minute of the 20 sessions before, in standard deviations of at least 0.25.

    ln(1 + V). A session counts from its first bar to its last, with no volume in a minute without a bar; 0 where
    fewer than 5 count.
    """
    grid = x.volume_grid
    logs = fixed_point(np.log(1.0 + grid.volume), LOG_BITS)
    least = LEAST_LOG_SD * 2.0**LOG_BITS
    return _at_bars(x, scores_of_rows_before(logs, grid.traded, TOD_SESSIONS, ENOUGH_SESSIONS, least))


def rvol_sess(x: Inputs) -> Floats:
    """Volume of the session so far against its mean up to the same minute of the 20 sessions before.

    A session counts from its first bar to its last; 1 where fewer than 5 count or none of them traded.
    """
    grid = x.volume_grid
    so_far = np.cumsum(grid.volume, axis=1)
    count, usual = (sum_of_rows_before(of, TOD_SESSIONS) for of in (grid.traded, so_far * grid.traded))
    relative = ratio(count * so_far, usual, 1.0)
    relative[count < ENOUGH_SESSIONS] = 1
    return _at_bars(x, relative)


def ofi_20(x: Inputs) -> Floats:
    """Volume of rising minus volume of falling closes over all volume of 20 bars, -1 to 1; 0 where none traded."""
    flow = rolling_sum(_signed_volume(x), 20)
    return x.after_window(ratio(flow, rolling_sum(x.long_volume, 20), 0.0), 20)


def kyle_lambda_60(x: Inputs) -> Floats:
    """Ticks the close moves for 1000 contracts of signed volume: the slope over 60 bars, clipped to +-1000 (Kyle 1985).

    Volume takes the sign of its bar's change of the close; 0 where signed volume does not vary.
    """
    _, spread, joint = rolling_moments(_fixed_change(x), _signed_volume(x), 60)
    slope = 1000 / 2.0**CHANGE_BITS * ratio(joint, spread, 0.0)
    return x.after_window(np.clip(slope, -LARGEST_LAMBDA, LARGEST_LAMBDA), 60)


def amihud_60(x: Inputs) -> Floats:
    """Log10 of the mean absolute return a million dollars traded, basis points, of the bars of 60 that traded.

    The mean is at least 1e-4, also where none traded (Amihud 2002, "Illiquidity and stock returns").
    """
    millions = x.long_close * x.long_volume * (x.instrument.tick_value / 1e6)
    illiquidity = np.minimum(1e4 * ratio(np.abs(x.long_return), millions, 0.0), LARGEST_ILLIQUIDITY)
    total = rolling_sum(fixed_point(illiquidity, ILLIQUIDITY_BITS), 60) / 2.0**ILLIQUIDITY_BITS
    mean = ratio(total, rolling_sum((x.long_volume > 0).astype(np.int64), 60), 0.0)
    return x.after_window(np.log10(np.maximum(mean, LEAST_ILLIQUIDITY)), 60)


def pv_corr_60(x: Inputs) -> Floats:
    """Correlation of the size of the change of the close with ln(1 + V) over 60 bars; 0 where one does not vary."""
    volume = fixed_point(np.log(1.0 + x.long_volume), LOG_BITS)
    moved, traded, joint = rolling_moments(np.abs(_fixed_change(x)), volume, 60)
    return x.after_window(ratio(joint, np.sqrt(moved) * np.sqrt(traded), 0.0), 60)


def _fixed_change(x: Inputs) -> Ints:
    return fixed_point(np.clip(x.long_change, -LARGEST_CHANGE, LARGEST_CHANGE), CHANGE_BITS)


def _signed_volume(x: Inputs) -> Ints:
    return np.sign(x.long_change).astype(np.int64) * x.long_volume


def _at_bars(x: Inputs, grid: Floats) -> Floats:
    """Return each bar's entry of a grid, NaN in the first sessions, which have too few before them."""
    grid[:TOD_SESSIONS] = np.nan
    return np.asarray(grid.ravel()[x.day * DAY + x.minute], np.float64)
