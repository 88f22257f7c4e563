"""Naked VPOCs: levels of completed sessions to which price has not come back."""

from __future__ import annotations

import polars as pl


def naked_levels(sessions: pl.DataFrame) -> pl.DataFrame:
    """Return the VPOCs that are naked after the last row of ``sessions``.

    A VPOC dies in the first later session whose range holds it (low <= VPOC <= high). The last
    session's own VPOC is always naked: no later bar has traded yet.

    Args:
        sessions: completed sessions of one contract in order, with ``session, high, low, vpoc``.

    Returns:
        ``session, vpoc`` of the survivors, in order.
    """
    # highest high and lowest low of a set of sessions do not tell whether one of them holds a price,
    # so every pair is looked at: 60 sessions a contract are 1800 pairs
    rows = sessions.select("session", "vpoc", "low", "high").with_row_index("at")
    touched = (
        rows.select("at", "vpoc")
        .join_where(
            rows.select(pl.col("at").alias("later"), "low", "high"),
            pl.col("later") > pl.col("at"),
            pl.col("low") <= pl.col("vpoc"),
            pl.col("high") >= pl.col("vpoc"),
        )
        .select("at")
    )
    return rows.join(touched, on="at", how="anti").sort("at").select("session", "vpoc")
