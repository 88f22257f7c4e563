"""Slow definitions of the price family."""

from __future__ import annotations

import math

from .oracle_market import NAN, Definition, Slow


def momentum(s: Slow, t: int, bars: int) -> float:
    return 1e4 * math.log(s.rows[t]["close"] / s.rows[t - bars]["close"]) if t >= bars else NAN


def since_close(s: Slow, t: int, ago: int) -> float:
    day = s.day_before(t, ago)
    return NAN if day is None else 100 * math.log(s.rows[t]["close"] / s.of_day[day][-1]["close"])


DEFINITIONS: dict[str, Definition] = {
    "close_change_pct": lambda s, t: 100 * (s.rows[t]["close"] / s.rows[t - 1]["close"] - 1) if t else NAN,
    "price_range": lambda s, t: 100 * (s.rows[t]["high"] - s.rows[t]["low"]) / s.rows[t]["close"],
    "price_mom_3d": lambda s, t: since_close(s, t, 3),
    "price_mom_5d": lambda s, t: since_close(s, t, 5),
    "mom_15m": lambda s, t: momentum(s, t, 15),
    "mom_60m": lambda s, t: momentum(s, t, 60),
}
