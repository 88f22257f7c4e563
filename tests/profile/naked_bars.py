"""The naked VPOCs at every bar as a frame: the kernel of the features in points, for tests by hand."""

from __future__ import annotations

import numpy as np
import polars as pl

from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.sessions import ABSENT, follow_naked
from vpoc_ml.profile.tick_bars import tick_bars

NAMES = ("count", "above", "below", "above_age", "below_age")


def naked_at_bars(
    bars: pl.DataFrame, sessions: pl.DataFrame, instrument: Instrument, column: str = "vpoc"
) -> pl.DataFrame:
    """Return ``ts`` and ``NAMES``: the number of naked levels, the nearest in points and their ages; null for none."""
    found = np.empty((0, 5), np.int64)
    if bars.height:
        level = sessions[column]
        ticks = np.where(level.is_null().to_numpy(), ABSENT, instrument.to_ticks(level.fill_null(0.0).to_numpy()))
        low, high, close, _, starts = tick_bars(bars, instrument)
        found = follow_naked(low, high, close, starts, ticks, ticks.size)[0]
    frame = pl.DataFrame({name: found[:, at] for at, name in enumerate(NAMES)}).with_columns(
        pl.when(pl.col(name) != ABSENT).then(pl.col(name)) for name in NAMES[1:]
    )
    return bars.select("ts").hstack(frame.with_columns(pl.col("above", "below") * instrument.tick_size))
