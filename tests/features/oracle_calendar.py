"""Slow definitions of the calendar family."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from vpoc_ml.market.exchange_calendar import sessions

from .oracle_market import NAN, Definition, Slow

ROLL = date(2025, 3, 17)  # Monday before the third Friday of March 2025


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


def gap(s: Slow, t: int) -> float:
    before = s.day_before(t, 1)
    return NAN if before is None else (s.so_far(t)[0]["open"] - s.of_day[before][-1]["close"]) / s.atr(t)


DEFINITIONS: dict[str, Definition] = {
    "tod_sin": lambda s, t: math.sin(angle(s, t)),
    "tod_cos": lambda s, t: math.cos(angle(s, t)),
    "is_rth": lambda s, t: float(s.rows[t]["rth"]),
    "dow": lambda s, t: ("Mon", "Tue", "Wed", "Thu", "Fri").index(f"{s.rows[t]['session']:%a}") / 4,
    "days_to_roll": to_roll,
    "gap_open": gap,
}
