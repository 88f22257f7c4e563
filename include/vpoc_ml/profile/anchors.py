"""The bars a profile is made of: the whole session, its RTH, or the night before."""

from __future__ import annotations

from typing import Literal

import polars as pl

Anchor = Literal["session", "rth", "overnight"]


def anchored(bars: pl.DataFrame, anchor: Anchor) -> pl.DataFrame:
    """Return the rows of canonical bars that belong to an anchor.

    ``rth``: bars marked so. ``overnight``: a session's bars before its first RTH bar, all of a session without RTH;
    the hour after RTH is neither. Whether a bar belongs does not depend on later bars.
    """
    if anchor == "session":
        return bars
    if anchor == "rth":
        return bars.filter("rth")
    return bars.filter(~pl.col("rth").cum_max().over("session"))
