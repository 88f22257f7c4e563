"""The levels as they stood at every bar: what a decision at its close may know."""

from __future__ import annotations

import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import developing_levels
from vpoc_ml.profile.ticks import area_rule, tick_bars


def build_developing(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return VPOC, VAH and VAL of the session so far, including the bar itself, one row a bar.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size.
        config: the value area's share and rule.

    Returns:
        ``ts, contract, session, vpoc, vah, val``; levels in points. The last row of a session equals
        its row of ``build_sessions``.

    Raises:
        ArtifactError: bars of several contracts, out of order, or contradictory.
    """
    keys = bars.select("ts", "contract", "session")
    names = ("vpoc", "vah", "val")
    if bars.is_empty():
        return keys.with_columns(pl.lit(None, pl.Float64).alias(name) for name in names)
    ticks = developing_levels(*tick_bars(bars, instrument), *area_rule(config))
    return keys.with_columns(pl.Series(name, ticks[:, at] * instrument.tick_size) for at, name in enumerate(names))
