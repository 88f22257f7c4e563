"""Volume, the price it traded at, and what it moved."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import CHANGE_BITS, LOG_BITS, Floats, Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.pointwise import fixed_point, ratio
from vpoc_ml.features.windows import (
    ratios_to_rows_before,
    rolling_correlation,
    rolling_slope,
    rolling_sum,
    scores_of_rows_before,
)

RATIO_BARS = 30
TOD_SESSIONS = 20
ENOUGH_SESSIONS = 5
"""Sessions that must have traded around a minute before one is measured against them."""
LEAST_LOG_SD = 0.25
"""Standard deviation of a minute's log volume counts at least this much."""
LARGEST_LAMBDA = 1000
LARGEST_Z = 10
ILLIQUIDITY_BITS, LARGEST_ILLIQUIDITY, LEAST_ILLIQUIDITY = 38, 1e5, 1e-4
"""Fixed point of one bar's basis points a million dollars, their most, and the least of a mean."""


def vwap(x: Inputs) -> Floats:
    """Close against the session's VWAP so far, in basis points; 0 while the session has no volume.

    A bar's price is (H + L + C) / 3; the three are summed and divided once, so the sums stay integers.
    """
    return np.asarray(1e4 * x.above_vwap[0], np.float64)


def vwap_z(x: Inputs) -> Floats:
    """Close minus the session's VWAP so far, in volume-weighted standard deviations of at least one tick.

    Clipped to +-10: in a session's first bars the deviation is small by chance. 0 while the session has no volume.
    Thirds of a tick from the session's first close keep the sums whole and small.
    """
    return np.asarray(np.clip(x.above_vwap[1], -LARGEST_Z, LARGEST_Z), np.float64)


def vol_ratio_30(x: Inputs) -> Floats:
    """Volume against the mean of the last 30 bars, itself included; 0 where none of them traded."""
    total = rolling_sum(x.long_volume, RATIO_BARS)
    return x.after_window(ratio(float(RATIO_BARS) * x.long_volume, total, 0.0), RATIO_BARS - 1)


def vol_z_tod(x: Inputs) -> Floats:
    """Log volume against the same minute of the 20 sessions before, in standard deviations of at least 0.25.

    ln(1 + V). A session counts from its first bar to its last, with no volume in a minute without a bar; 0 where
    fewer than 5 count.
    """
    grid, least = x.minutes.grid(x.whole_log_volume), LEAST_LOG_SD * 2.0**LOG_BITS
    scores = scores_of_rows_before(grid, x.minutes.spans, TOD_SESSIONS, ENOUGH_SESSIONS, least)
    return x.minutes.at_last(x.close.size, scores)


def rvol_sess(x: Inputs) -> Floats:
    """Volume of the session so far against its mean up to the same minute of the 20 sessions before.

    A session counts from its first bar to its last; 1 where fewer than 5 count or none of them traded.
    """
    so_far = np.cumsum(x.minutes.grid(x.whole("volume")), axis=1)
    relative = ratios_to_rows_before(so_far, x.minutes.spans, TOD_SESSIONS, ENOUGH_SESSIONS)
    return x.minutes.at_last(x.close.size, relative)


def ofi_20(x: Inputs) -> Floats:
    """Volume of rising minus volume of falling closes over all volume of 20 bars, -1 to 1; 0 where none traded."""
    flow = rolling_sum(x.long_flow, 20)
    return x.after_window(ratio(flow, rolling_sum(x.long_volume, 20), 0.0), 20)


def kyle_lambda_60(x: Inputs) -> Floats:
    """Ticks the close moves for 1000 contracts of signed volume: the slope over 60 bars, clipped to +-1000 (Kyle 1985).

    Volume takes the sign of its bar's change of the close; 0 where signed volume does not vary.
    """
    slope = 1000 / 2.0**CHANGE_BITS * rolling_slope(x.long_fixed_change, x.long_flow, 60)
    return x.after_window(np.clip(slope, -LARGEST_LAMBDA, LARGEST_LAMBDA), 60)


def amihud_60(x: Inputs) -> Floats:
    """Log10 of the mean absolute return a million dollars traded, basis points, of the bars of 60 that traded.

    The mean is at least 1e-4, also where none traded (Amihud 2002, "Illiquidity and stock returns").
    """
    millions = positive(x.long_close) * x.long_volume * (x.instrument.tick_value / 1e6)
    illiquidity = np.minimum(1e4 * ratio(np.abs(x.long_return), millions, 0.0), LARGEST_ILLIQUIDITY)
    total = rolling_sum(fixed_point(illiquidity, ILLIQUIDITY_BITS), 60) / 2.0**ILLIQUIDITY_BITS
    mean = ratio(total, rolling_sum((x.long_volume > 0).astype(np.int64), 60), 0.0)
    return x.after_window(np.log10(np.maximum(mean, LEAST_ILLIQUIDITY)), 60)


def pv_corr_60(x: Inputs) -> Floats:
    """Correlation of the size of the change of the close with ln(1 + V) over 60 bars; 0 where one does not vary."""
    moved, traded = np.abs(x.long_fixed_change), x.as_long(x.whole_log_volume)
    return x.after_window(rolling_correlation(moved, traded, 60), 60)
