"""Whether a contract has traded enough for a check that needs variation or history.

A column that never changes is a fault only where it had time to change: a weekday needs several sessions, and six
prints of a deferred contract show nothing of anything. Young contracts are named, not failed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import polars as pl

from vpoc_ml.quality.checks import ALL, NONE, YOUNG, Check, Measurement

LEAST_ROWS = 60
"""Rows with values that a column needs before one that never varied is a fault: the usual window of bars."""
LEAST_BARS = 15
"""Values that a session needs to count, in at least half of the minutes from its first to its last bar."""


class Varying(Protocol):
    """What the check for variation must know of a feature."""

    @property
    def variation_sessions(self) -> int: ...
    @property
    def resting_values(self) -> tuple[float, ...]: ...


class Evidence(NamedTuple):
    """Traded sessions in which a column has values, and its values in them."""

    sessions: int
    rows: int


def young_check(what: str) -> Check:
    """Return the remark on a contract that is too young for some checks of ``what``; it fails nothing."""
    return Check(YOUNG, ALL, f"enough sessions to judge every one of its {what}", None, info_if=NONE)


def excuse_young(
    lazy: pl.LazyFrame,
    contract: str,
    measurements: Sequence[Measurement],
    known: Mapping[str, Varying],
    cold: Mapping[str, str],
) -> list[Measurement]:
    """Return the tallies with "constant" and "empty" taken back where the contract is too young, and that tally.

    The frame is read again only if a column looks constant or empty, so a mature contract costs nothing more.

    Args:
        lazy: rows of one contract: ts, session and the columns judged.
        contract: its code.
        tallies: what was counted.
        known: the columns that must vary, and after how many sessions.
        cold: columns whose lookback is longer than the contract, with what they need; they may be empty.
    """
    doubtful = [one for one in measurements if one.check in ("constant", "empty") and one.count and one.column in known]
    shown = _evidence(lazy, sorted({one.column for one in doubtful}))
    needed: dict[str, list[str]] = defaultdict(list)
    excused: list[Measurement] = []
    for one in doubtful:
        resting = one.check == "constant" and one.values[0] in known[one.column].resting_values
        seen = shown[ALL if one.check == "empty" else one.column]
        need = cold.get(one.column) or _need(known[one.column].variation_sessions, seen)
        if resting or need:
            excused.append(one)
        if need and not resting:
            needed[need].append(one.column)
    kept = [_held(one) if one in excused else one for one in measurements]
    note = "; ".join(f"{', '.join(names)}: {need}" for need, names in needed.items())
    return [
        *kept,
        Measurement(contract, ALL, YOUNG, sum(map(len, needed.values())), len(known), note=note, unit="columns"),
    ]


def _need(sessions: int, shown: Evidence) -> str:
    """Return what a column still needs before its lack of variation counts; nothing when it counts now."""
    if shown.sessions >= sessions and shown.rows >= LEAST_ROWS:
        return ""
    plural = "s" if sessions > 1 else ""
    return f"needs {LEAST_ROWS} bars in {sessions} traded session{plural}, has {shown.rows} in {shown.sessions}"


def _held(one: Measurement) -> Measurement:
    return replace(one, count=0, first=(), values=(), note="the contract cannot show it yet")


def _evidence(lazy: pl.LazyFrame, names: Sequence[str]) -> dict[str, Evidence]:
    """Return, by column, the sessions with values in half of their minutes, and these values; under ``*`` of rows."""
    if not names:
        return {}
    minutes = (pl.col("ts").max() - pl.col("ts").min()).dt.total_minutes() + 1
    finite = [pl.col(name).is_finite().fill_null(value=False).sum().cast(pl.Int64).alias(name) for name in names]
    by_session = lazy.group_by("session").agg(minutes.alias("_minutes"), pl.len().cast(pl.Int64).alias(ALL), *finite)
    counts = by_session.collect(engine="streaming")
    found = {}
    for name in (ALL, *names):
        enough = (counts[name] >= LEAST_BARS) & (2 * counts[name] >= counts["_minutes"])
        found[name] = Evidence(int(enough.sum()), int(counts[name].filter(enough).sum()))
    return found
