"""Levels of completed sessions: of each session, of composites of several sessions, naked VPOCs, structure of RTH.

``build_sessions`` returns one row per session with prices, volume and levels of the full session, of RTH and of the
night before it. ``build_composites`` treats several sessions as one profile. The structure of regular hours is the
initial balance, the open range, single prints and tails.

A naked VPOC is one that price has not traded again. A VPOC becomes naked when its session ends. The first later bar
with low <= VPOC <= high ends that. A price that was jumped over stays naked. Levels belong to one contract: they do not
survive a roll.
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import LEVELS, SESSION_FIGURES
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.exchange_calendar import sessions as exchange_sessions
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, Ints, session_levels, span_levels
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


INITIAL_BALANCE, OPEN_RANGE = 60, 10
"""Minutes from the opening of RTH (J. Dalton, Mind over Markets: the first two half hours)."""

BRACKET = 30
"""Minutes of a bracket. The first bracket begins at the opening of RTH."""

MIN_TAIL = 2
"""Smallest number of ticks of a tail."""


def with_minutes(bars: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Return the RTH bars with ``minute``, whole minutes from the exchange's RTH opening to the bar's start.

    The opening comes from the calendar, because the first RTH bar of a session may be missing. Sessions that the
    calendar does not know have no rows.

    Raises:
        InvalidValueError: bars outside the years whose hours were reviewed.
    """
    rth = bars.filter("rth")
    if rth.is_empty():
        return rth.with_columns(pl.lit(None, pl.Int64).alias("minute"))
    calendar = exchange_sessions(instrument.calendar, rth["session"][0], rth["session"][-1])
    opens = calendar.select("session", "rth_open").drop_nulls()
    joined = rth.join(opens, on="session", how="inner", maintain_order="left")
    return joined.with_columns((pl.col("ts") - pl.col("rth_open")).dt.total_minutes().alias("minute")).drop("rth_open")


def opening_ranges(bars: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Return ``session, ib_high, ib_low, or_high, or_low`` in points, one row per session with RTH bars.

    The initial balance covers the first 60 minutes of RTH and is known when they are over. The open range covers the
    first 10. Values are null where no bar falls into these minutes.

    Raises:
        InvalidValueError: as ``with_minutes``.
    """
    columns = []
    for name, minutes in (("ib", INITIAL_BALANCE), ("or", OPEN_RANGE)):
        inside = pl.col("minute").is_between(0, minutes - 1)
        columns.append(pl.col("high").filter(inside).max().alias(f"{name}_high"))
        columns.append(pl.col("low").filter(inside).min().alias(f"{name}_low"))
    return with_minutes(bars, instrument).group_by("session", maintain_order=True).agg(columns)


def build_prints(bars: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Return the single prints and tails of every session's RTH, one row per run of adjacent prices.

    A bracket visits the prices low..high of each of its bars. A run of prices visited by exactly one bracket is a
    ``low_tail`` or ``high_tail`` if it begins at the session's extreme and has at least 2 ticks. It is a
    ``single_print`` if it touches neither extreme. The result is known at the end of RTH only.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size and the calendar.

    Returns:
        ``session, kind, low, high``; prices in points, both inclusive, low to high.

    Raises:
        InvalidValueError: as ``with_minutes``.
    """
    rows = []
    for (session,), part in with_minutes(bars, instrument).group_by("session", maintain_order=True):
        low, high = (instrument.to_ticks(part[name].to_numpy()) for name in ("low", "high"))
        counts = bracket_counts(low, high, part["minute"].to_numpy() // BRACKET)
        base = int(low.min())
        rows += [(session, kind, base + first, base + last) for kind, first, last in find_prints(counts)]
    schema = {"session": pl.Date, "kind": pl.String, "low": pl.Int64, "high": pl.Int64}
    points = pl.col("low", "high") * instrument.tick_size
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(points)


def bracket_counts(low: Ints, high: Ints, bracket: Ints) -> Ints:
    """Return how many brackets visited each tick from the lowest low to the highest high of the bars."""
    base = low.min()
    edges = np.zeros((int(bracket.max()) + 1, int(high.max() - base) + 2), np.int64)
    np.add.at(edges, (bracket, low - base), 1)
    np.add.at(edges, (bracket, high - base + 1), -1)
    visited = np.cumsum(edges, axis=1)[:, :-1] > 0
    return np.asarray(visited.sum(axis=0), dtype=np.int64)


def find_prints(counts: Ints) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, first row, last row) of each run of ones that is a single print or a tail.

    A run from the lowest to the highest row is neither: such a session has no structure.
    """
    last_row = counts.size - 1
    change = np.diff(np.concatenate(([0], (counts == 1).astype(np.int64), [0])))
    runs = zip(np.flatnonzero(change == 1).tolist(), (np.flatnonzero(change == -1) - 1).tolist(), strict=True)
    for first, last in runs:
        if first > 0 and last < last_row:
            yield "single_print", first, last
        elif last - first + 1 >= MIN_TAIL and (first > 0 or last < last_row):
            yield "low_tail" if first == 0 else "high_tail", first, last
