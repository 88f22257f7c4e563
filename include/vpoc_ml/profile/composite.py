"""Composite profiles: several sessions as one profile."""

from __future__ import annotations

import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import LEVELS
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, span_levels
from vpoc_ml.profile.tick_bars import Anchor, profile_rule, select_anchor, session_starts, tick_bars


def build_composites(
    bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, length: int, anchor: Anchor = "session"
) -> pl.DataFrame:
    """Return the levels of each session together with the ``length - 1`` sessions before it, known when it ends.

    A composite never spans two contracts, because their prices differ by the carry. The first ``length - 1`` sessions
    of a contract have no row. Volumes are added as integers, so a composite is exactly the sum of its sessions.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size.
        config: share and rule of the value area, and the spread.
        length: sessions of a composite, at least 1.
        anchor: the bars that count. Sessions without such bars are skipped.

    Returns:
        ``contract, first_session, session, vpoc, vah, val`` in points (null without volume), ``va_volume`` in
        contracts.

    Raises:
        InvalidValueError: a length below 1.
        ArtifactError: as ``tick_bars``.
    """
    if length < 1:
        raise InvalidValueError("length", length, "at least 1 session")
    selected = select_anchor(bars, anchor)
    starts = session_starts(selected["session"])
    begins, ends = starts[: max(starts.size - length, 0)].copy(), starts[length:].copy()
    rows = selected.select("contract", "session")
    firsts: pl.DataFrame = rows[begins.tolist()].rename({"session": "first_session"})
    frame = firsts.hstack(rows.select("session")[(ends - 1).tolist()])
    levels = np.empty((0, 4), np.int64)
    if begins.size:
        levels = span_levels(tick_bars(selected, instrument), begins, ends, profile_rule(config))
    # any traded volume gives the value area a positive volume
    empty = pl.Series(levels[:, 3] == 0)
    frame = frame.with_columns(
        pl.Series(name, levels[:, at] * instrument.tick_size).set(empty, None) for at, name in enumerate(LEVELS)
    )
    return frame.with_columns(pl.Series("va_volume", levels[:, 3] / SCALE))
