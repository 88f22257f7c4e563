"""Which bars explain the failures of a gate.

A bad bar appears in every feature that reads it. A bar explains a check of its contract if the check's first row that
nothing else explains is the bar itself or a row that reads it, and if it explains a third of all rows of the check:
more than three bad bars are no single mistakes. The bar that explains most checks comes first; among equals the latest
one, which is nearest to the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.artifacts.gate_report import Cause
from vpoc_ml.features.registry import PriceLookback, known_features
from vpoc_ml.quality.checks import Quote
from vpoc_ml.quality.failing_rows import Bars

MOST = 20
"""Causes of a gate that are kept."""
QUOTED = 5
"""Causes whose source lines are read: each takes a read of the contract's files."""
SHARE = 1 / 3
_TRIED = 50  # first rows that are tried as the reason of the others
_NEAR = PriceLookback("bars", 5)  # the bars after a bad one, which differ from it
_SESSION = PriceLookback("sessions", 0)

Places = NDArray[np.int64]
CheckKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Failing:
    """A failed check: severity, number of defects, lookback, and the bars of the rows not explained yet, ascending.

    The row of a session is its last bar, and no bar that explains others.
    """

    key: CheckKey
    severity: str
    count: int
    lookback: PriceLookback
    bar: Places

    def last(self, bar: int, sessions: Places) -> int:
        """Return the last bar that reads ``bar``; ``sessions`` is the session of every bar, (m,)."""
        if self.lookback.unit == "bars":
            return bar + self.lookback.back
        return int(np.searchsorted(sessions, sessions[bar] + self.lookback.back, side="right")) - 1

    def begins_at(self, bar: int, sessions: Places) -> bool:
        """Return whether ``bar`` can be the reason of the first row, and of enough rows."""
        if not self.bar.size or not bar <= self.bar[0] <= (last := self.last(bar, sessions)):
            return False
        if self.lookback.unit == "sessions" and sessions[self.bar[0]] > sessions[bar] + 1:
            return False  # a feature of sessions shows a bad bar at once, or from the next session on
        found = int((self.bar <= last).sum())
        if found == self.bar.size:  # all rows that were kept; more may follow
            found = max(found, min(self.count, last - bar + 1))
        return found >= SHARE * self.count


def lookback_of(column: str) -> PriceLookback:
    """Return the bars or sessions that a feature reads before its row; of any other column a few bars."""
    known = known_features().get(column)
    if known is None:
        return _NEAR
    return known._replace(relative=True).price_lookback or _NEAR  # the rule for prices holds for every input


def find_causes(
    rows: pl.DataFrame, bars: Bars, counts: Mapping[CheckKey, int], quote: Quote | None
) -> tuple[Cause, ...]:
    """Return the bars that explain the failures of a gate, those that explain most first.

    Args:
        rows: Failing rows (``schemas.FAILING_ROWS``).
        bars: The bars of the contracts.
        counts: Number of defects by check.
        quote: Returns the source lines of a bar; None: they are not read.
    """
    causes = []
    for code, own in bars.of.items():
        known = own.select("ts", "session").unique("ts", keep="first").sort("ts").with_row_index("bar")
        failing = _failing(rows.filter(pl.col("contract") == code, pl.col("severity") != "info"), known, counts)
        causes += _causes(code, failing, known["ts"], known["session"].rle_id().cast(pl.Int64).to_numpy())
    causes.sort(key=lambda cause: (-cause.critical, -cause.warning, cause.ts))
    if quote is not None:
        for at, cause in enumerate(causes[:QUOTED]):
            lines = tuple(quote(cause.contract, [datetime.fromisoformat(cause.ts)]))
            causes[at] = cause.model_copy(update={"source": lines})
    return tuple(causes[:MOST])


def _failing(rows: pl.DataFrame, bars: pl.DataFrame, counts: Mapping[CheckKey, int]) -> list[_Failing]:
    """Return the failed checks of a contract with the bars of their rows; a row without a bar is left out.

    Args:
        rows: Failing rows of the contract.
        bars: bar, ts, session of every bar, by unique ts.
        counts: Number of defects by check.
    """
    ends = bars.group_by("session").agg(pl.col("bar").last().alias("end"))
    placed = (
        rows.join(bars.select("ts", "bar"), on="ts", how="left")
        .join(ends, on="session", how="left")
        .with_columns(by_session=pl.col("ts").is_null(), bar=pl.coalesce("bar", "end").cast(pl.Int64))
        .drop_nulls("bar")
        .sort("bar")
    )
    return [
        _Failing(
            (code, column, check),
            part["severity"][0],
            counts.get((code, column, check), part.height),
            _SESSION if part["by_session"][0] else lookback_of(column),
            part["bar"].to_numpy(),
        )
        for (code, column, check), part in placed.group_by("contract", "column", "check", maintain_order=True)
    ]


def _causes(code: str, failing: list[_Failing], times: pl.Series, sessions: Places) -> list[Cause]:
    """Return the causes of one contract, each with the checks whose first unexplained rows it explains."""
    causes: list[Cause] = []
    while len(causes) < MOST:
        starts = Counter(int(each.bar[0]) for each in failing if each.bar.size and each.lookback is not _SESSION)
        tried = sorted((bar for bar, _ in starts.most_common(_TRIED)), reverse=True)
        found = [(bar, [each for each in failing if each.begins_at(bar, sessions)]) for bar in tried]
        bar, best = max(found, key=lambda each: len(each[1]), default=(0, []))
        if not best:
            return causes
        failing = [
            replace(each, bar=each.bar[each.bar > each.last(bar, sessions)]) if each in best else each
            for each in failing
        ]
        causes.append(
            Cause(
                contract=code,
                ts=times[bar].isoformat(),
                critical=sum(each.severity == "critical" for each in best),
                warning=sum(each.severity == "warning" for each in best),
                checks=tuple(each.key[1:] for each in best),
            )
        )
    return causes
