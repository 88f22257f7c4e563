"""Aggregate trades to minute bars in bounded memory: of each batch one row a minute is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from vpoc_ml.artifacts.schemas import OHLCV


def to_minutes(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield malformed rows as they come and, at the end, one bar a minute of [minute, minute + 60 s).

    Rows are trades or shorter bars (ts, open, high, low, close, volume, line, text) and may be out of order: the
    earliest gives the open, the latest the close; of equal timestamps the order in the file decides. ``line`` of a bar
    is that of its earliest trade.
    """
    partial: list[pl.DataFrame] = []
    for batch in batches:
        yield batch.filter(pl.col("ts").is_null())
        partial.append(_by_minute(batch.filter(pl.col("ts").is_not_null()).with_columns(last=pl.col("ts"))))
        if len(partial) > 64:
            partial = [_by_minute(pl.concat(partial))]
    if partial:
        bars = _by_minute(pl.concat(partial)).with_columns(ts=pl.col("ts").dt.truncate("1m"))
        yield bars.select("ts", *OHLCV, "line", text=pl.format("the minute from line {}", "line"))


def _by_minute(rows: pl.DataFrame) -> pl.DataFrame:
    """Return one row a minute; ``ts`` of the first and ``last`` of the last trade allow grouping again."""
    minute = pl.col("ts").dt.truncate("1m").alias("minute")
    ordered = rows.sort("ts", maintain_order=True)
    return (
        ordered.group_by(minute, maintain_order=True)
        .agg(
            pl.col("ts").first(),
            pl.col("last").max(),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").sort_by("last", maintain_order=True).last(),
            pl.col("volume").sum(),
            pl.col("line").first(),
        )
        .drop("minute")
    )
