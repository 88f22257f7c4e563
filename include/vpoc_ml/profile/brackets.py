"""Single prints and tails: prices that only one half hour of RTH visited."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints
from vpoc_ml.profile.opening import with_minutes

BRACKET = 30
"""Minutes of a bracket, the first from the opening of RTH."""

MIN_TAIL = 2
"""Ticks a tail needs."""


def build_prints(bars: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Return the single prints and tails of every session's RTH, one row a run of adjacent prices.

    A bracket visits the prices low..high of each of its bars. A run of prices visited by exactly one bracket is a
    ``low_tail`` or ``high_tail`` if it begins at the session's extreme and has at least 2 ticks, and
    ``single_print`` if it touches neither extreme. All of it is known at the end of RTH only.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size and the calendar.

    Returns:
        ``session, kind, low, high``; prices in points, both inclusive, low to high.

    Raises:
        InvalidValueError: bars outside the years whose hours were reviewed.
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
    """Yield (kind, first row, last row) of the runs of ones; one run from end to end is a session without structure."""
    last_row = counts.size - 1
    for first, last in _runs(counts == 1):
        if first > 0 and last < last_row:
            yield "single_print", first, last
        elif last - first + 1 >= MIN_TAIL and (first > 0 or last < last_row):
            yield "low_tail" if first == 0 else "high_tail", first, last


def _runs(chosen: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the first and last row of each run of True."""
    change = np.diff(np.concatenate(([0], chosen.astype(np.int64), [0])))
    yield from zip(np.flatnonzero(change == 1).tolist(), (np.flatnonzero(change == -1) - 1).tolist(), strict=True)
