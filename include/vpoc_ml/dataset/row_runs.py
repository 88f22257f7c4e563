"""Rows of a table without a copy, where they follow each other: a training set fills most of a process's memory."""

from __future__ import annotations

import polars as pl

MOST_RUNS = 512
"""Runs of rows from which on a copy is cheaper than that many slices."""


def take_runs(frame: pl.DataFrame, chosen: pl.Series) -> pl.DataFrame:
    """Return the rows for which ``chosen`` (boolean, no null) is true, in their order.

    Rows that follow each other are a slice, which shares the memory of ``frame``. Rows in many runs are copied.
    """
    runs = chosen.rle().struct.unnest().with_columns(start=pl.col("len").cum_sum() - pl.col("len"))
    runs = runs.filter("value")
    if not 0 < runs.height <= MOST_RUNS:
        return frame.filter(chosen)
    return pl.concat(frame.slice(start, rows) for start, rows in runs.select("start", "len").iter_rows())


def chunked_like(values: pl.Series, frame: pl.DataFrame) -> pl.Series:
    """Return ``values`` in the chunks of ``frame``. Without them polars copies every column when these are added."""
    parts, start = [], 0
    for chunk in frame.to_series(0).get_chunks():
        parts.append(values.slice(start, chunk.len()))
        start += chunk.len()
    return pl.concat(parts, rechunk=False)
