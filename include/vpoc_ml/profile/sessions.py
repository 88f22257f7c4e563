"""Levels of completed sessions: of each session, of composites of several sessions, and naked VPOCs.

``build_sessions`` returns one row per session with prices, volume and levels of the full session, of RTH and of the
night before it. ``build_composites`` treats several sessions as one profile.

A naked VPOC is one that price has not traded again. A VPOC becomes naked when its session ends. The first later bar
with low <= VPOC <= high ends that. A price that was jumped over stays naked. Levels belong to one contract: they do not
survive a roll.
"""

from __future__ import annotations

import numba
import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import LEVELS, SESSION_FIGURES
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, Ints, session_levels, span_levels
from vpoc_ml.profile.rth_structure import opening_ranges
from vpoc_ml.profile.tick_bars import (
    Anchor,
    profile_rule,
    require_matching_sessions,
    select_anchor,
    session_starts,
    tick_bars,
)

COLUMNS = tuple(SESSION_FIGURES)
"""Figures of the full session. The variants of RTH and of the night have the prefix ``rth_`` or ``overnight_``."""
ABSENT = np.iinfo(np.int64).min
"""Stands for a session without VPOC, and for no naked VPOC on one side."""


def build_sessions(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return one row for every session of ``bars``, in order.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size and the calendar.
        config: share and rule of the value area, and the spread.

    Returns:
        The columns of ``schemas.SESSIONS``: ``contract, session``, then ``COLUMNS`` of the full session: bars (Int32),
        open, high, low, close in points, volume in contracts, vpoc, vah, val in points, va_volume in contracts and
        range in points. Then the same with prefix ``rth_`` over the RTH bars, then ib_high, ib_low of the initial
        balance and or_high, or_low of the open range in points, then ``COLUMNS`` with prefix ``overnight_`` over the
        bars before RTH. Values are null where the session has no such bars; vpoc, vah and val are also null where
        these bars have no volume.

    Raises:
        ArtifactError: as ``tick_bars``.
        InvalidValueError: RTH bars outside the years whose hours were reviewed.
    """
    frame = _profile(bars, instrument, config)
    variants = (
        _session_variant(bars, instrument, config, "rth"),
        opening_ranges(bars, instrument),
        _session_variant(bars, instrument, config, "overnight"),
    )
    for variant in variants:
        frame = frame.join(variant, on="session", how="left", maintain_order="left")
    return frame


def _session_variant(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, anchor: Anchor) -> pl.DataFrame:
    frame = _profile(select_anchor(bars, anchor), instrument, config)
    return frame.drop("contract").rename({name: f"{anchor}_{name}" for name in COLUMNS})


def _profile(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return ``contract, session`` and ``COLUMNS``, one row per session of ``bars``."""
    prices = bars.group_by("session", maintain_order=True).agg(
        pl.col("contract").first(),
        pl.len().cast(pl.Int32).alias("bars"),
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum().cast(pl.Int64),
        (pl.col("high").max() - pl.col("low").min()).alias("range"),
    )
    levels = pl.DataFrame(schema=dict.fromkeys((*LEVELS, "va_volume"), pl.Float64))
    if not bars.is_empty():
        ticks = session_levels(tick_bars(bars, instrument), profile_rule(config))
        columns = {name: ticks[:, at] * instrument.tick_size for at, name in enumerate(LEVELS)}
        levels = pl.DataFrame({**columns, "va_volume": ticks[:, 3] / SCALE})
    traded = pl.when(pl.col("volume") > 0)
    frame = pl.concat([prices, levels], how="horizontal")
    return frame.with_columns(traded.then(pl.col(name)) for name in LEVELS).select("contract", "session", *COLUMNS)


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
