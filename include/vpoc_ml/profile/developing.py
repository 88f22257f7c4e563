"""The levels as they stood at every bar: what a decision at its close may know."""

from __future__ import annotations

import numpy as np
import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.anchors import Anchor, anchored
from vpoc_ml.profile.kernels import Ints, TickBars, extend_levels
from vpoc_ml.profile.sessions import LEVELS
from vpoc_ml.profile.state import ProfileState, refuse_foreign
from vpoc_ml.profile.ticks import profile_rule, tick_bars

_KEYS = ("ts", "contract", "session")


def build_developing(
    bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, anchor: Anchor = "session"
) -> pl.DataFrame:
    """Return VPOC, VAH and VAL of the session so far, including the bar itself, one row a bar.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size.
        config: the value area's share and rule, and the spread.
        anchor: the bars that count. Before the first of a session the levels are null, after the last they stay.

    Returns:
        ``ts, contract, session, vpoc, vah, val``; levels in points, null until the session has traded volume.
        The last row of a session equals its row of ``build_sessions``.

    Raises:
        ArtifactError: bars of several contracts, out of order, or contradictory.
    """
    levels, _ = extend_developing(anchored(bars, anchor), instrument, config)
    if anchor == "session":
        return levels
    joined = bars.select(_KEYS).join(levels.select("ts", *LEVELS), on="ts", how="left", maintain_order="left")
    return joined.with_columns(pl.col(LEVELS).forward_fill().over("session"))


def extend_developing(
    bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, state: ProfileState | None = None
) -> tuple[pl.DataFrame, ProfileState | None]:
    """Return the levels at ``bars``, which go on where ``state`` stopped, and the state after them.

    However the bars are cut into calls, and whether the state was saved and loaded between them, the levels are
    those of one call with all bars, to the last bit.

    Raises:
        ArtifactError: as ``build_developing``; or the state is another contract's, of another spread, or later.
    """
    keys = bars.select(_KEYS)
    if bars.is_empty():
        return keys.with_columns(pl.lit(None, pl.Float64).alias(name) for name in LEVELS), state
    if state is not None:
        refuse_foreign(state, bars, config.spread)
    ticks = tick_bars(bars, instrument)
    goes_on = state is not None and state.session == bars["session"][0]
    levels, low, units = _extend(ticks, config, state if goes_on else None)
    contract, session, ts = bars.select("contract", "session", "ts").row(-1)
    before = int(state.units.sum() > 0) if goes_on and state else 0
    first_session = pl.col("session") == pl.col("session").first()
    traded = pl.col("volume").cum_sum().over("session") + pl.when(first_session).then(before).otherwise(0) > 0
    known = bars.select(traded).to_series()
    frame = keys.with_columns(
        pl.Series(name, levels[:, at] * instrument.tick_size).set(~known, None) for at, name in enumerate(LEVELS)
    )
    return frame, ProfileState(contract, session, ts, config.spread, low, units)


def _extend(ticks: TickBars, config: ProfileConfig, carried: ProfileState | None) -> tuple[Ints, int, Ints]:
    """Return the levels at every bar, and the low and the profile of the last session."""
    low, high = int(ticks.low.min()), int(ticks.high.max())
    begin = int(ticks.starts[-2])
    bottom, top = int(ticks.low[begin:].min()), int(ticks.high[begin:].max())
    first, last = (carried.low, carried.low + carried.units.size - 1) if carried else (low, low - 1)
    if carried and begin == 0:
        bottom, top = min(bottom, first), max(top, last)
    base = min(low, first) - 1  # an empty row at either end
    profile = np.zeros(max(high, last) - base + 2, np.int64)
    if carried:
        profile[first - base : last - base + 1] = carried.units
    levels = extend_levels(ticks, profile_rule(config), base, profile, first - base, last - base)
    return levels, bottom, profile[bottom - base : top - base + 1].copy()
