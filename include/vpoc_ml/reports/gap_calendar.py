"""The minutes of the exchange's calendar in which a contract has no bar: by session and hour, and as ranges."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from vpoc_ml.market.nights import CHICAGO

_MINUTE = pl.duration(minutes=1)


@dataclass(frozen=True, slots=True)
class Gaps:
    """The missing minutes of a contract.

    Attributes:
        sessions: session, minutes (of the calendar), missing; one row a session, in order.
        hours: session, hour (0 to 23, Chicago), minutes, missing; hours without trading are left out.
        ranges: session, first, last (start of the first and of the last missing minute, UTC), minutes; by time.
    """

    sessions: pl.DataFrame
    hours: pl.DataFrame
    ranges: pl.DataFrame


def find_gaps(bars: pl.DataFrame, calendar: pl.DataFrame) -> Gaps:
    """Compare bars with the calendar.

    Args:
        bars: ts (start of bar, UTC) of every bar.
        calendar: session, open, close, halt_start, halt_end (UTC; null without a halt) of each session to compare.
    """
    every = calendar.select(
        "session",
        "halt_start",
        "halt_end",
        ts=pl.datetime_ranges("open", "close", "1m", closed="left", time_unit="us"),
    ).explode("ts")
    halted = (pl.col("ts") >= pl.col("halt_start")) & (pl.col("ts") < pl.col("halt_end"))
    known = bars.select(pl.col("ts").unique(), has_bar=pl.lit(value=True))
    minutes = (
        every.filter(~halted.fill_null(value=False))
        .select("session", "ts", hour=pl.col("ts").dt.convert_time_zone(str(CHICAGO)).dt.hour())
        .join(known, on="ts", how="left", maintain_order="left")
        .with_columns(missing=pl.col("has_bar").is_null())
    )
    counts = pl.len().alias("minutes"), pl.col("missing").sum()
    begins = (pl.col("missing") != pl.col("missing").shift(1)).fill_null(value=True)
    jumps = (pl.col("session") != pl.col("session").shift(1)).fill_null(value=True)
    ranges = (
        minutes.with_columns(part=(begins | jumps).cum_sum())
        .filter("missing")
        .group_by("session", "part", maintain_order=True)
        .agg(pl.col("ts").first().alias("first"), pl.col("ts").last().alias("last"), pl.len().alias("minutes"))
        .drop("part")
    )
    return Gaps(
        minutes.group_by("session", maintain_order=True).agg(*counts),
        minutes.group_by("session", "hour", maintain_order=True).agg(*counts),
        ranges,
    )
