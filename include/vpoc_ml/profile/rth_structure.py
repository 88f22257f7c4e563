"""Structure of regular hours: initial balance, open range, single prints and tails."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from vpoc_ml.market.exchange_calendar import sessions as exchange_sessions
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints

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
