"""Whether a contract has traded enough for a check that needs variation or history.

A column that never changes is defective only if it had time to change: a weekday needs several sessions, and six
prints of a deferred contract show nothing. Young contracts get a remark instead of a failure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL, YOUNG
from vpoc_ml.quality.checks import Measurement

LEAST_ROWS = 60
"""Rows with values from which on a column that never varied is defective: the usual window of bars."""
LEAST_BARS = 15
"""Values that a session needs to count as traded, in at least half of the minutes from its first to its last bar."""


class Varying(Protocol):
    """What the check for variation must know of a feature."""

    @property
    def variation_sessions(self) -> int: ...
    @property
    def resting_values(self) -> tuple[float, ...]: ...


def excuse_young(
    lazy: pl.LazyFrame,
    contract: str,
    measurements: Sequence[Measurement],
    known: Mapping[str, Varying],
    cold: Mapping[str, str],
) -> list[Measurement]:
    """Return the measurements, with "constant" and "empty" set to 0 where the contract is too young for them.

    The last measurement, "young", counts the columns that were excused. The frame is read again only if a column
    looks constant or empty, so that a mature contract costs nothing more.

    Args:
        lazy: Rows of one contract: ts, session and the measured columns.
        contract: Its code.
        measurements: What was measured.
        known: The columns that must vary, and after how many sessions.
        cold: Columns whose lookback is longer than the contract, with a text on what they need; they may be empty.
    """
    doubtful = [
        each for each in measurements if each.check in ("constant", "empty") and each.count and each.column in known
    ]
    evidence = traded(lazy, sorted({each.column for each in doubtful}))
    needed: dict[str, list[str]] = defaultdict(list)
    excused: list[Measurement] = []
    for each in doubtful:
        sessions, rows = evidence[ALL if each.check == "empty" else each.column]
        least = known[each.column].variation_sessions
        need = cold.get(each.column, "")
        if not need and (sessions < least or rows < LEAST_ROWS):
            plural = "s" if least > 1 else ""
            need = f"needs {LEAST_ROWS} bars in {least} traded session{plural}, has {rows} in {sessions}"
        resting = each.check == "constant" and each.values[0] in known[each.column].resting_values
        if resting or need:
            excused.append(each)
        if need and not resting:
            needed[need].append(each.column)
    note = "the contract cannot show it yet"
    kept = [
        replace(each, count=0, first=(), values=(), note=note) if each in excused else each for each in measurements
    ]
    names = "; ".join(f"{', '.join(columns)}: {need}" for need, columns in needed.items())
    count = sum(map(len, needed.values()))
    return [*kept, Measurement(contract, ALL, YOUNG, count, len(known), note=names, unit="columns")]


def traded(lazy: pl.LazyFrame, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return, by column, the number of traded sessions and of the column's finite values in them.

    A session counts with finite values in half of its minutes, and at least ``LEAST_BARS`` of them. Under ``*``: the
    same for rows instead of values.
    """
    if not names:
        return {}
    minutes = (pl.col("ts").max() - pl.col("ts").min()).dt.total_minutes() + 1
    finite = [pl.col(name).is_finite().fill_null(value=False).sum().cast(pl.Int64).alias(name) for name in names]
    by_session = lazy.group_by("session").agg(minutes.alias("_minutes"), pl.len().cast(pl.Int64).alias(ALL), *finite)
    counts = by_session.collect(engine="streaming")
    result = {}
    for name in (ALL, *names):
        enough = (counts[name] >= LEAST_BARS) & (2 * counts[name] >= counts["_minutes"])
        result[name] = (int(enough.sum()), int(counts[name].filter(enough).sum()))
    return result
