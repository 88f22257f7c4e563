"""Naked VPOCs: levels of completed sessions to which price has not come back.

A VPOC is born when its session ends and dies at the first later bar that trades it (low <= VPOC <= high); a price
that was jumped over lives on. Levels are of one contract: at a roll there are none.
"""

from __future__ import annotations

import numba
import numpy as np
import polars as pl

from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints
from vpoc_ml.profile.ticks import refuse_other_sessions, tick_bars

ABSENT = np.iinfo(np.int64).min
"""A session without VPOC, and no naked VPOC on a side."""


def naked_levels(
    bars: pl.DataFrame, sessions: pl.DataFrame, instrument: Instrument, column: str = "vpoc"
) -> pl.DataFrame:
    """Return the VPOCs that are naked after the last bar, its session counted as completed.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        sessions: their rows of ``build_sessions``.
        instrument: gives the tick size.
        column: the level, ``vpoc`` or ``rth_vpoc``; null where a session has none.

    Returns:
        ``session``, the level under its own name in points, and ``age`` (Int64), the sessions completed since.

    Raises:
        ArtifactError: the sessions are not those of the bars; bars as ``build_sessions``.
    """
    if bars.is_empty():
        return sessions.head(0).select("session", column, pl.lit(0, pl.Int64).alias("age"))
    born = _follow(bars, sessions, instrument, column)[1]
    rows: pl.DataFrame = sessions.select("session", column)[born.tolist()]
    return rows.with_columns(pl.Series("age", sessions.height - 1 - born, pl.Int64))


def naked_at_bars(
    bars: pl.DataFrame, sessions: pl.DataFrame, instrument: Instrument, column: str = "vpoc"
) -> pl.DataFrame:
    """Return what is naked at every bar, the bar itself included: ``naked_levels`` at the end of each.

    Args: as ``naked_levels``; of each session only levels of earlier sessions are used.

    Returns:
        ``ts, count`` (Int64) of naked levels, ``above`` and ``below``, the nearest to the close in points, and
        ``above_age, below_age``, their sessions completed since plus the current one; null where there is none.

    Raises:
        ArtifactError: as ``naked_levels``.
    """
    names = ("count", "above", "below", "above_age", "below_age")
    found = _follow(bars, sessions, instrument, column)[0] if bars.height else np.empty((0, 5), np.int64)
    ticks = pl.DataFrame({name: found[:, at] for at, name in enumerate(names)}).with_columns(
        pl.when(pl.col(name) != ABSENT).then(pl.col(name)) for name in names[1:]
    )
    return bars.select("ts").hstack(ticks.with_columns(pl.col("above", "below") * instrument.tick_size))


def _follow(bars: pl.DataFrame, sessions: pl.DataFrame, instrument: Instrument, column: str) -> tuple[Ints, Ints]:
    refuse_other_sessions(bars["session"].unique(maintain_order=True), sessions["session"])
    level = sessions[column]
    ticks = np.where(level.is_null().to_numpy(), ABSENT, instrument.to_ticks(level.fill_null(0.0).to_numpy()))
    low, high, close, _, starts = tick_bars(bars, instrument)
    followed: tuple[Ints, Ints] = follow_naked(low, high, close, starts, ticks, ticks.size)
    return followed


@numba.njit(cache=True, nogil=True)
def follow_naked(low: Ints, high: Ints, close: Ints, starts: Ints, vpoc: Ints, oldest: int) -> tuple[Ints, Ints]:
    """Return per bar (count, nearest above, nearest below, their ages), and the sessions whose VPOC is naked last.

    A level more than ``oldest`` sessions old is forgotten.
    """
    found = np.full((low.size, 5), ABSENT, np.int64)
    born, alive = np.empty(vpoc.size, np.int64), 0
    for session in range(vpoc.size):
        for bar in range(starts[session], starts[session + 1]):
            kept = 0
            for at in range(alive):
                level, age = vpoc[born[at]], session - born[at]
                if age > oldest or low[bar] <= level <= high[bar]:
                    continue
                born[kept] = born[at]
                kept += 1
                if level > close[bar] and (found[bar, 1] == ABSENT or level <= found[bar, 1]):
                    found[bar, 1], found[bar, 3] = level, age
                elif level < close[bar] and (found[bar, 2] == ABSENT or level >= found[bar, 2]):
                    found[bar, 2], found[bar, 4] = level, age
            alive = found[bar, 0] = kept
        if vpoc[session] != ABSENT:
            born[alive] = session
            alive += 1
    return found, born[:alive]
