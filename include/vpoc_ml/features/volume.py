"""Volume, the price at which it traded, and its price impact."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import CHANGE_BITS, LOG_BITS, Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.series import (
    fixed_point,
    ratio,
    ratios_to_rows_before,
    rolling_correlation,
    rolling_slope,
    rolling_sum,
    scores_of_rows_before,
)

RATIO_BARS = 30
TOD_SESSIONS = 20
ENOUGH_SESSIONS = 5
"""Sessions that must have traded around a minute before a volume is compared with them."""
LEAST_LOG_SD = 0.25
"""Smallest standard deviation of a minute's log volume."""
LARGEST_LAMBDA = 1000
LARGEST_Z = 10
ILLIQUIDITY_BITS, LARGEST_ILLIQUIDITY, LEAST_ILLIQUIDITY = 38, 1e5, 1e-4
"""Illiquidity in basis points per million dollars: fixed point and maximum of one bar, minimum of a mean."""


def vwap(x: Inputs) -> Floats:
    """Close against the session's VWAP so far, in basis points; 0 while the session has no volume.

    The price of a bar is (H + L + C) / 3. The three are summed and divided once, so the sums are integers.
    """
    return np.asarray(1e4 * x.above_vwap[0], np.float64)


def vwap_z(x: Inputs) -> Floats:
    """Close minus the session's VWAP so far, in volume-weighted standard deviations of at least one tick.

    Clipped to +-10, because the deviation of a session's first bars is small by chance. 0 while the session has no
    volume. Sums are taken in thirds of a tick from the session's first close, so they are small integers.
    """
    return np.asarray(np.clip(x.above_vwap[1], -LARGEST_Z, LARGEST_Z), np.float64)


def vol_ratio_30(x: Inputs) -> Floats:
    """Volume over the mean of the last 30 bars, itself included; 0 where none of them traded."""
    bars = x.padded
    total = rolling_sum(bars.volume, RATIO_BARS)
    return bars.own_after(ratio(float(RATIO_BARS) * bars.volume, total, 0.0), RATIO_BARS - 1)


def vol_z_tod(x: Inputs) -> Floats:
    """Log volume against the same minute of the 20 sessions before, in standard deviations of at least 0.25.

    The logarithm is ln(1 + V). A session counts from its first bar to its last, and a minute without a bar in between
    has volume 0. The value is 0 where fewer than 5 sessions count.
    """
    minutes, least = x.minute_grid, LEAST_LOG_SD * 2.0**LOG_BITS
    grid = minutes.fill(x.full_history.log_volume)
    scores = scores_of_rows_before(grid, minutes.spans, TOD_SESSIONS, ENOUGH_SESSIONS, least)
    return minutes.at_last(x.close.size, scores)


def rvol_sess(x: Inputs) -> Floats:
    """Volume of the session so far over its mean up to the same minute of the 20 sessions before.

    A session counts from its first bar to its last. The value is 1 where fewer than 5 count or none of them traded.
    """
    so_far = np.cumsum(x.minute_grid.fill(x.full_history.volume), axis=1)
    relative = ratios_to_rows_before(so_far, x.minute_grid.spans, TOD_SESSIONS, ENOUGH_SESSIONS)
    return x.minute_grid.at_last(x.close.size, relative)


def ofi_20(x: Inputs) -> Floats:
    """Volume of rising minus volume of falling closes over all volume of 20 bars, -1 to 1; 0 where none traded."""
    bars = x.padded
    return bars.own_after(ratio(rolling_sum(bars.flow, 20), rolling_sum(bars.volume, 20), 0.0), 20)


def kyle_lambda_60(x: Inputs) -> Floats:
    """Ticks the close moves per 1000 contracts of signed volume: the slope over 60 bars, clipped to +-1000 (Kyle 1985).

    Volume has the sign of its bar's change of the close. The value is 0 where signed volume does not vary.
    """
    slope = 1000 / 2.0**CHANGE_BITS * rolling_slope(x.padded.fixed_change, x.padded.flow, 60)
    return x.padded.own_after(np.clip(slope, -LARGEST_LAMBDA, LARGEST_LAMBDA), 60)


def amihud_60(x: Inputs) -> Floats:
    """Log10 of the mean absolute return per million dollars traded, in basis points, over the traded bars of 60.

    The mean is at least 1e-4, also where none traded (Amihud 2002, "Illiquidity and stock returns").
    """
    bars = x.padded
    millions = positive(bars.close) * bars.volume * (x.instrument.tick_value / 1e6)
    illiquidity = np.minimum(1e4 * ratio(np.abs(bars.log_return), millions, 0.0), LARGEST_ILLIQUIDITY)
    total = rolling_sum(fixed_point(illiquidity, ILLIQUIDITY_BITS), 60) / 2.0**ILLIQUIDITY_BITS
    mean = ratio(total, rolling_sum((bars.volume > 0).astype(np.int64), 60), 0.0)
    return bars.own_after(np.log10(np.maximum(mean, LEAST_ILLIQUIDITY)), 60)


def pv_corr_60(x: Inputs) -> Floats:
    """Correlation of the size of the change of the close with ln(1 + V) over 60 bars; 0 where one does not vary."""
    moved = np.abs(x.padded.fixed_change)
    return x.padded.own_after(rolling_correlation(moved, x.padded.log_volume, 60), 60)
