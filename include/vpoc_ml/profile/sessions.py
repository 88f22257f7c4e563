"""One row per session: prices, volume and levels of the full session, of RTH and of the night before it."""

from __future__ import annotations

import polars as pl

from vpoc_ml.artifacts.schemas import LEVELS, SESSION_FIGURES
from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, session_levels
from vpoc_ml.profile.rth_structure import opening_ranges
from vpoc_ml.profile.tick_bars import Anchor, profile_rule, select_anchor, tick_bars

COLUMNS = tuple(SESSION_FIGURES)
"""Figures of the full session. The variants of RTH and of the night have the prefix ``rth_`` or ``overnight_``."""


def build_sessions(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return one row for every session of ``bars``, in order.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size and the calendar.
        config: share and rule of the value area, and the spread.

    Returns:
        The columns of ``schemas.SESSIONS``: ``contract, session``, then ``COLUMNS`` of the full session: bars (Int32),
        open, high, low, close in points, volume in contracts, vpoc, vah, val in points, va_volume in contracts and
        range in points. Then the same with prefix ``rth_`` over the RTH bars, then ib_high, ib_low of the initial
        balance and or_high, or_low of the open range in points, then ``COLUMNS`` with prefix ``overnight_`` over the
        bars before RTH. Values are null where the session has no such bars; vpoc, vah and val are also null where
        these bars have no volume.

    Raises:
        ArtifactError: as ``tick_bars``.
        InvalidValueError: RTH bars outside the years whose hours were reviewed.
    """
    frame = _profile(bars, instrument, config)
    variants = (
        _session_variant(bars, instrument, config, "rth"),
        opening_ranges(bars, instrument),
        _session_variant(bars, instrument, config, "overnight"),
    )
    for variant in variants:
        frame = frame.join(variant, on="session", how="left", maintain_order="left")
    return frame


def _session_variant(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, anchor: Anchor) -> pl.DataFrame:
    frame = _profile(select_anchor(bars, anchor), instrument, config)
    return frame.drop("contract").rename({name: f"{anchor}_{name}" for name in COLUMNS})


def _profile(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return ``contract, session`` and ``COLUMNS``, one row per session of ``bars``."""
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
    levels = pl.DataFrame(schema=dict.fromkeys((*LEVELS, "va_volume"), pl.Float64))
    if not bars.is_empty():
        ticks = session_levels(tick_bars(bars, instrument), profile_rule(config))
        columns = {name: ticks[:, at] * instrument.tick_size for at, name in enumerate(LEVELS)}
        levels = pl.DataFrame({**columns, "va_volume": ticks[:, 3] / SCALE})
    traded = pl.when(pl.col("volume") > 0)
    frame = pl.concat([prices, levels], how="horizontal")
    return frame.with_columns(traded.then(pl.col(name)) for name in LEVELS).select("contract", "session", *COLUMNS)
