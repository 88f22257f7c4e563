"""One row a session: its prices, volume and levels, over the whole session, over RTH and over the night."""

from __future__ import annotations

import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.anchors import Anchor, anchored
from vpoc_ml.profile.kernels import SCALE, session_levels
from vpoc_ml.profile.opening import opening_ranges
from vpoc_ml.profile.ticks import profile_rule, tick_bars

COLUMNS = ("bars", "open", "high", "low", "close", "volume", "vpoc", "vah", "val", "va_volume", "range")
"""What is known of a session; the twins of RTH and of the night carry the same names after ``rth_``, ``overnight_``."""

LEVELS = ("vpoc", "vah", "val")
"""Null where no volume was traded: a profile without volume has no level."""

OPENING = ("ib_high", "ib_low", "or_high", "or_low")
"""High and low of the first 60 and of the first 10 minutes of RTH."""


def build_sessions(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return one row for every session of ``bars``, in order.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size and the calendar.
        config: the value area's share and rule, and the spread.

    Returns:
        ``contract, session``, then bars (Int32), open, high, low, close in points, volume in contracts,
        vpoc, vah, val in points, va_volume in contracts and range in points; then the same with the
        prefix ``rth_`` over the RTH bars; then ib_high, ib_low of the initial balance and or_high, or_low of
        the open range in points; then the same with the prefix ``overnight_`` over the bars before RTH. Null
        where the session has no such bars; vpoc, vah and val are null too where these bars have no volume.

    Raises:
        ArtifactError: bars of several contracts, out of order, or contradictory.
        InvalidValueError: RTH bars outside the years whose hours were reviewed.
    """
    whole = _profile(bars, instrument, config)
    opening = opening_ranges(bars, instrument)
    for other in (_twins(bars, instrument, config, "rth"), opening, _twins(bars, instrument, config, "overnight")):
        whole = whole.join(other, on="session", how="left", maintain_order="left")
    return whole


def _twins(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, anchor: Anchor) -> pl.DataFrame:
    chosen = _profile(anchored(bars, anchor), instrument, config)
    return chosen.drop("contract").rename({name: f"{anchor}_{name}" for name in COLUMNS})


def _profile(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    prices = bars.group_by("session", maintain_order=True).agg(
        pl.col("contract").first(),
        pl.len().cast(pl.Int32).alias("bars"),
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum().cast(pl.Int64),
        (pl.col("high").max() - pl.col("low").min()).alias("range"),
    )
    traded = pl.when(pl.col("volume") > 0)
    frame = pl.concat([prices, _levels(bars, instrument, config)], how="horizontal")
    return frame.with_columns(traded.then(pl.col(name)) for name in LEVELS).select("contract", "session", *COLUMNS)


def _levels(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    if bars.is_empty():
        return pl.DataFrame(schema=dict.fromkeys((*LEVELS, "va_volume"), pl.Float64))
    ticks = session_levels(tick_bars(bars, instrument), profile_rule(config))
    columns = {name: ticks[:, at] * instrument.tick_size for at, name in enumerate(LEVELS)}
    return pl.DataFrame({**columns, "va_volume": ticks[:, 3] / SCALE})
