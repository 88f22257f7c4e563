"""Slow definitions of the volatility family."""

from __future__ import annotations

import math

from .oracle_market import NAN, Definition, Slow


def realised(s: Slow, t: int, bars: int) -> float:
    if t < bars:
        return NAN
    returns = [math.log(s.rows[i]["close"] / s.rows[i - 1]["close"]) for i in range(t - bars + 1, t + 1)]
    return 100 * math.sqrt(1380 * sum(r * r for r in returns) / bars)


DEFINITIONS: dict[str, Definition] = {
    "rv_30": lambda s, t: realised(s, t, 30),
    "rv_390": lambda s, t: realised(s, t, 390),
}
