"""The first share of the history: what a run is made of when it shall not use everything."""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl


def first_sessions(front: pl.DataFrame, sessions: Mapping[str, pl.Series], share: float) -> pl.DataFrame:
    """Return the front periods cut after the first ``share`` of their sessions, at least one.

    Args:
        front: contract, first_session, last_session (inclusive Dates).
        sessions: per contract the session of each of its rows, Date.
        share: in (0, 1]; 1 returns ``front`` as it is.
    """
    if share >= 1:
        return front
    known = sorted(
        {
            day
            for period in front.iter_rows(named=True)
            for day in sessions[period["contract"]].unique()
            if period["first_session"] <= day <= period["last_session"]
        }
    )
    if not known:
        return front
    last = known[max(1, math.ceil(share * len(known))) - 1]
    kept = front.filter(pl.col("first_session") <= last)
    return kept.with_columns(pl.min_horizontal("last_session", pl.lit(last)))
