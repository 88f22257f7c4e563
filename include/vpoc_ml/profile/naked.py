"""Naked VPOCs: levels of completed sessions that price has not traded again.

A VPOC becomes naked when its session ends. The first later bar with low <= VPOC <= high ends that. A price that was
jumped over stays naked. Levels belong to one contract: they do not survive a roll.
"""

from __future__ import annotations

import numba
import numpy as np
import polars as pl

from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints
from vpoc_ml.profile.tick_bars import require_matching_sessions, tick_bars

ABSENT = np.iinfo(np.int64).min
"""Stands for a session without VPOC, and for no naked VPOC on one side."""


def naked_levels(
    bars: pl.DataFrame, sessions: pl.DataFrame, instrument: Instrument, column: str = "vpoc"
) -> pl.DataFrame:
    """Return the VPOCs that are naked after the last bar, whose session counts as completed.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        sessions: their rows of ``build_sessions``.
        instrument: gives the tick size.
        column: the level, ``vpoc`` or ``rth_vpoc``; null where a session has none.

    Returns:
        ``session``, the level under its own name in points, and ``age`` (Int64), the sessions completed since.

    Raises:
        ArtifactError: the sessions are not those of the bars, or the bars are rejected by ``tick_bars``.
    """
    if bars.is_empty():
        return sessions.head(0).select("session", column, pl.lit(0, pl.Int64).alias("age"))
    require_matching_sessions(bars["session"].unique(maintain_order=True), sessions["session"])
    level = sessions[column]
    ticks = np.where(level.is_null().to_numpy(), ABSENT, instrument.to_ticks(level.fill_null(0.0).to_numpy()))
    low, high, close, _, starts = tick_bars(bars, instrument)
    naked = follow_naked(low, high, close, starts, ticks, ticks.size)[1]
    rows: pl.DataFrame = sessions.select("session", column)[naked.tolist()]
    return rows.with_columns(pl.Series("age", sessions.height - 1 - naked, pl.Int64))


@numba.njit(cache=True, nogil=True)
def follow_naked(low: Ints, high: Ints, close: Ints, starts: Ints, vpoc: Ints, oldest: int) -> tuple[Ints, Ints]:
    """Return per bar (count, nearest above, nearest below, their ages), and the sessions whose VPOC is naked last.

    Args:
        low, high, close: of each bar, in ticks.
        starts: first row of each session, then the number of bars.
        vpoc: of each session, in ticks; ``ABSENT`` for none.
        oldest: sessions after which a level is dropped, naked or not.
    """
    found = np.full((low.size, 5), ABSENT, np.int64)
    naked, count = np.empty(vpoc.size, np.int64), 0
    for session in range(vpoc.size):
        for bar in range(starts[session], starts[session + 1]):
            kept = 0
            for at in range(count):
                level, age = vpoc[naked[at]], session - naked[at]
                if age > oldest or low[bar] <= level <= high[bar]:
                    continue
                naked[kept] = naked[at]
                kept += 1
                if level > close[bar] and (found[bar, 1] == ABSENT or level <= found[bar, 1]):
                    found[bar, 1], found[bar, 3] = level, age
                elif level < close[bar] and (found[bar, 2] == ABSENT or level >= found[bar, 2]):
                    found[bar, 2], found[bar, 4] = level, age
            count = found[bar, 0] = kept
        if vpoc[session] != ABSENT:
            naked[count] = session
            count += 1
    return found, naked[:count]
