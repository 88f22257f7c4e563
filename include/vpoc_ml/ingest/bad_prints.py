"""Isolated bad prints: one bar whose price or volume no bar around it supports.

After a real move the following bars trade at the new level, or between both. A bad print is a single bar that leaves
the range of its neighbours on both sides. An error that lasts longer than one bar is not detected here.
"""

from __future__ import annotations

import polars as pl

# The largest move of one minute that the next ones reversed is about 1 % (2013-04-23, 2010-05-06); the minute of data
# releases has a standard deviation of 0.24 %. Ten median bar ranges are the limit in fast markets: 0.4 % bars of March
# 2020, or crude oil around zero, where a share of the price means nothing.
_PRICE_SHARE = 0.015
_RANGES = 10.0
_RANGE_BARS = 31
_PRICE_NEIGHBOURS = (-2, -1, 1, 2)
_NEAR = pl.duration(minutes=5)

# The closing minute trades 20 times the median and six times the minute before it; a data release 75 times the
# minutes before it, but no more than five times those after it. In real contracts no bar exceeds 14 times the
# largest of the ten bars around.
_VOLUME_RATIO = 50
_VOLUME_SHARE = 0.001
_VOLUME_NEIGHBOURS = tuple(n for n in range(-5, 6) if n)
_MIN_BARS = 60
_MIN_MEDIAN = 20
MAX_VOLUME = 10_000_000
"""Largest possible volume of a minute in contracts; the busiest days of the largest futures reach six million."""


def isolated_prints() -> pl.Expr:
    """Return a Boolean expression over bars (ts, session, open, high, low, close, volume; sorted by ts)."""
    return isolated_prices() | isolated_volumes()


def isolated_prices() -> pl.Expr:
    """Mark bars that leave the range of the two bars before and after them by more than a limit.

    The limit is the larger of 1.5 % of the price and ten median bar ranges of the 31 bars around. A bar without a
    neighbour within five minutes on either side is not checked: deferred months trade hours apart. The first and the
    last bar of a file have neighbours on one side only. Fewer than 31 bars are not checked.
    """
    above = pl.col("high") - pl.max_horizontal(pl.col("high").shift(n) for n in _PRICE_NEIGHBOURS)
    below = pl.min_horizontal(pl.col("low").shift(n) for n in _PRICE_NEIGHBOURS) - pl.col("low")
    ts = pl.col("ts")
    near = (ts - ts.shift(1) <= _NEAR).fill_null(False) | (ts.shift(-1) - ts <= _NEAR).fill_null(False)
    level = pl.col("close").rolling_median(_RANGE_BARS, center=True, min_samples=1).abs()
    far = pl.max_horizontal(_PRICE_SHARE * level, median_bar_range(_RANGES))
    known = pl.len() >= _RANGE_BARS
    return (known & near & (pl.max_horizontal(above, below) > far)).fill_null(False)


def isolated_volumes() -> pl.Expr:
    """Mark bars with more than 50 times the volume of the ten bars around and 0.1 % of the rest of their session.

    Only sessions that trade steadily (60 bars, a median of 20 contracts) are checked: a block trade in a deferred
    month looks the same and is valid. ``MAX_VOLUME`` holds for every bar.
    """
    volume = pl.col("volume")
    around = pl.max_horizontal(volume.shift(n) for n in _VOLUME_NEIGHBOURS)
    rest = volume.sum().over("session") - volume
    steady = (pl.len().over("session") >= _MIN_BARS) & (volume.median().over("session") >= _MIN_MEDIAN)
    alone = (volume > _VOLUME_RATIO * around) & (volume > _VOLUME_SHARE * rest)
    return ((volume > MAX_VOLUME) | (steady & alone)).fill_null(False)


def median_bar_range(times: float) -> pl.Expr:
    """Return ``times`` the median of high - low over the 31 bars around, in points."""
    return times * (pl.col("high") - pl.col("low")).rolling_median(_RANGE_BARS, center=True, min_samples=1)
