"""Slow definitions of the VIX family."""

from __future__ import annotations

import math

from .oracle_market import NAN, Definition, Slow
from .oracle_volatility import yang_zhang


def published(s: Slow, t: int) -> list[float]:
    return [row["close"] for row in s.vix if row["available_at"] < s.rows[t]["ts"]]


def vix_change(s: Slow, t: int) -> float:
    closes = published(s, t)
    return math.log(closes[-1] / closes[-6]) if len(closes) >= 6 else NAN


DEFINITIONS: dict[str, Definition] = {
    "vix_lag1": lambda s, t: (published(s, t) or [NAN])[-1],
    "vix_chg_5d": vix_change,
    "vrp": lambda s, t: math.log((published(s, t) or [NAN])[-1] / yang_zhang(s, t)),
}
