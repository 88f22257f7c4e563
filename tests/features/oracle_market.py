"""The market in the form of the slow definitions: lists of rows, one bar at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from typing import Any

import polars as pl
from tests.profile import reference
from tests.profile.reference import Bar

NAN = math.nan


class Slow:
    """The market as lists of rows, looked at one bar at a time."""

    def __init__(self, bars: pl.DataFrame, vix: pl.DataFrame) -> None:
        self.rows: list[dict[str, Any]] = bars.to_dicts()
        self.vix = vix.to_dicts()
        self.days: list[date] = sorted(set(bars["session"]))
        self.of_day = {day: [row for row in self.rows if row["session"] == day] for day in self.days}
        self.levels = {day: self.levels_of(rows) for day, rows in self.of_day.items()}

    @staticmethod
    def levels_of(rows: list[dict[str, Any]]) -> list[float]:
        bars = [Bar(int(row["low"] * 4), int(row["high"] * 4), int(row["close"] * 4), row["volume"]) for row in rows]
        if not any(bar.volume for bar in bars):
            return [NAN] * 3
        return [tick / 4 for tick in reference.levels_of(bars, Fraction(7, 10), 2)[:3]]

    def so_far(self, t: int) -> list[dict[str, Any]]:
        return [row for row in self.of_day[self.rows[t]["session"]] if row["ts"] <= self.rows[t]["ts"]]

    def day_before(self, t: int, ago: int) -> Any:
        at = self.days.index(self.rows[t]["session"]) - ago
        return self.days[at] if at >= 0 else None

    def atr(self, t: int) -> float:
        if self.day_before(t, 14) is None:
            return NAN
        return max(sum(self.true_range(t, ago) for ago in range(1, 15)) / 14, 0.25)

    def true_range(self, t: int, ago: int) -> float:
        day, before = self.day_before(t, ago), self.day_before(t, ago + 1)
        high, low = max(r["high"] for r in self.of_day[day]), min(r["low"] for r in self.of_day[day])
        if before is None:
            return high - low
        last = self.of_day[before][-1]["close"]
        return max(high, last) - min(low, last)


Definition = Callable[[Slow, int], float]
"""A feature's value at row ``t``."""
