"""One row a session: its prices, volume and levels, over the whole session and over RTH."""

from __future__ import annotations

import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, session_levels
from vpoc_ml.profile.ticks import area_rule, tick_bars

COLUMNS = ("bars", "open", "high", "low", "close", "volume", "vpoc", "vah", "val", "va_volume", "range")
"""What is known of a session; the RTH twins carry the same names after ``rth_``."""


def build_sessions(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return one row for every session of ``bars``, in order.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size.
        config: the value area's share and rule.

    Returns:
        ``contract, session``, then bars (Int32), open, high, low, close in points, volume in contracts,
        vpoc, vah, val in points, va_volume in contracts and range in points; then the same with the
        prefix ``rth_`` over the RTH bars, null where the session has none.

    Raises:
        ArtifactError: bars of several contracts, out of order, or contradictory.
    """
    whole = _profile(bars, instrument, config)
    rth = _profile(bars.filter(pl.col("rth")), instrument, config)
    rth = rth.drop("contract").rename({name: f"rth_{name}" for name in COLUMNS})
    return whole.join(rth, on="session", how="left", maintain_order="left")


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
    levels = _levels(bars, instrument, config)
    return pl.concat([prices, levels], how="horizontal").select("contract", "session", *COLUMNS)


def _levels(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    names = ("vpoc", "vah", "val")
    if bars.is_empty():
        return pl.DataFrame(schema=dict.fromkeys((*names, "va_volume"), pl.Float64))
    ticks = session_levels(*tick_bars(bars, instrument), *area_rule(config))
    columns = {name: ticks[:, at] * instrument.tick_size for at, name in enumerate(names)}
    return pl.DataFrame({**columns, "va_volume": ticks[:, 3] / SCALE})
