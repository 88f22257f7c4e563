"""Every feature against its definition, written as slow loops over Python numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.market.calendar import sessions
from vpoc_ml.profile import reference
from vpoc_ml.profile.reference import Bar

NAN = math.nan
ROLL = date(2025, 3, 17)  # Monday before the third Friday of March 2025


class Slow:
    """The market as lists of rows, looked at one bar at a time."""

    def __init__(self, bars: pl.DataFrame, vix: pl.DataFrame) -> None:
        self.rows: list[dict[str, Any]] = bars.to_dicts()
        self.vix = vix.to_dicts()
        self.days: list[date] = sorted(set(bars["session"]))
        self.of_day = {day: [row for row in self.rows if row["session"] == day] for day in self.days}
        self.levels = {day: self._levels(rows) for day, rows in self.of_day.items()}

    @staticmethod
    def _levels(rows: list[dict[str, Any]]) -> list[float]:
        bars = [Bar(*(int(row[name] * 4) for name in ("low", "high", "close")), row["volume"]) for row in rows]
        return [tick / 4 for tick in reference.levels_of(bars, Fraction(7, 10), 2)[:3]]

    def so_far(self, t: int) -> list[dict[str, Any]]:
        return [row for row in self.of_day[self.rows[t]["session"]] if row["ts"] <= self.rows[t]["ts"]]

    def day_before(self, t: int, ago: int) -> date | None:
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


def momentum(s: Slow, t: int, bars: int) -> float:
    return 1e4 * math.log(s.rows[t]["close"] / s.rows[t - bars]["close"]) if t >= bars else NAN


def since_close(s: Slow, t: int, ago: int) -> float:
    day = s.day_before(t, ago)
    return NAN if day is None else 100 * math.log(s.rows[t]["close"] / s.of_day[day][-1]["close"])


def realised(s: Slow, t: int, bars: int) -> float:
    if t < bars:
        return NAN
    returns = [math.log(s.rows[i]["close"] / s.rows[i - 1]["close"]) for i in range(t - bars + 1, t + 1)]
    return 100 * math.sqrt(1380 * sum(r * r for r in returns) / bars)


def vwap(s: Slow, t: int) -> float:
    volume = sum(row["volume"] for row in s.so_far(t))
    value = sum((row["high"] + row["low"] + row["close"]) / 3 * row["volume"] for row in s.so_far(t))
    return 1e4 * (s.rows[t]["close"] * volume / value - 1) if volume else 0.0


def volume_ratio(s: Slow, t: int) -> float:
    if t < 29:
        return NAN
    mean = sum(row["volume"] for row in s.rows[t - 29 : t + 1]) / 30
    return s.rows[t]["volume"] / mean if mean else 0.0


def vpoc_dev(s: Slow, t: int) -> float:
    return (s.rows[t]["close"] - s._levels(s.so_far(t))[0]) / s.atr(t)


def position_dev(s: Slow, t: int) -> float:
    _, vah, val = s._levels(s.so_far(t))
    return min(max((s.rows[t]["close"] - val) / max(vah - val, 1.0), -5), 6)


def vpoc_prev(s: Slow, t: int) -> float:
    day = s.day_before(t, 1)
    return NAN if day is None else (s.rows[t]["close"] - s.levels[day][0]) / s.atr(t)


def position_prev(s: Slow, t: int) -> float:
    day = s.day_before(t, 1)
    if day is None:
        return NAN
    _, vah, val = s.levels[day]
    return (s.rows[t]["close"] - val) / max(vah - val, 1.0)


def published(s: Slow, t: int) -> list[float]:
    return [row["close"] for row in s.vix if row["available_at"] < s.rows[t]["ts"]]


def vix_change(s: Slow, t: int) -> float:
    closes = published(s, t)
    return math.log(closes[-1] / closes[-6]) if len(closes) >= 6 else NAN


def angle(s: Slow, t: int) -> float:
    clock: datetime = s.rows[t]["ts"].astimezone(ZoneInfo("America/New_York"))
    opened = clock.replace(hour=18, minute=0) - timedelta(days=clock.hour < 18)
    minutes = (clock.replace(tzinfo=None) - opened.replace(tzinfo=None)).total_seconds() / 60
    return 2 * math.pi * minutes / 1380


def to_roll(s: Slow, t: int) -> float:
    day = s.rows[t]["session"]
    return min(
        70, sum(day <= other < ROLL for other in sessions("CME Globex Equity", day, date(2025, 6, 1))["session"])
    )


DEFINITIONS: dict[str, Callable[[Slow, int], float]] = {
    "close_change_pct": lambda s, t: 100 * (s.rows[t]["close"] / s.rows[t - 1]["close"] - 1) if t else NAN,
    "price_range": lambda s, t: 100 * (s.rows[t]["high"] - s.rows[t]["low"]) / s.rows[t]["close"],
    "price_mom_3d": lambda s, t: since_close(s, t, 3),
    "price_mom_5d": lambda s, t: since_close(s, t, 5),
    "vwap": vwap,
    "mom_15m": lambda s, t: momentum(s, t, 15),
    "mom_60m": lambda s, t: momentum(s, t, 60),
    "vol_ratio_30": volume_ratio,
    "rv_30": lambda s, t: realised(s, t, 30),
    "rv_390": lambda s, t: realised(s, t, 390),
    "vpoc_dev_dist": vpoc_dev,
    "va_pos_dev": position_dev,
    "vpoc_prev_dist": vpoc_prev,
    "va_pos_prev": position_prev,
    "vix_lag1": lambda s, t: (published(s, t) or [NAN])[-1],
    "vix_chg_5d": vix_change,
    "tod_sin": lambda s, t: math.sin(angle(s, t)),
    "tod_cos": lambda s, t: math.cos(angle(s, t)),
    "is_rth": lambda s, t: float(s.rows[t]["rth"]),
    "days_to_roll": to_roll,
}


@pytest.fixture(scope="module")
def found(rough, compute) -> pl.DataFrame:
    return compute(*rough)


@pytest.fixture(scope="module")
def slow(rough) -> Slow:
    return Slow(*rough)


def test_every_feature_has_a_definition_here():
    assert tuple(DEFINITIONS) == FEATURE_NAMES


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_feature_equals_its_definition_on_awkward_bars(name, found, slow):
    step = 7 if name in ("vpoc_dev_dist", "va_pos_dev", "days_to_roll") else 1
    rows = range(0, found.height, step)
    expected = np.array([DEFINITIONS[name](slow, t) for t in rows])
    np.testing.assert_allclose(found[name].to_numpy()[::step], expected, rtol=2e-6, atol=1e-6)


def test_awkward_bars_give_no_infinity_and_flat_windows_give_exact_zero(found):
    values = found.select(FEATURE_NAMES)
    assert not values.select(pl.any_horizontal(pl.all().is_infinite().any())).item()
    assert (found["rv_30"] == 0).any()
    assert (found["vol_ratio_30"] == 0).any()
