"""Slow definitions of the volume family."""

from __future__ import annotations

from .oracle_market import NAN, Definition, Slow


def volume_ratio(s: Slow, t: int) -> float:
    if t < 29:
        return NAN
    mean = sum(row["volume"] for row in s.rows[t - 29 : t + 1]) / 30
    return s.rows[t]["volume"] / mean if mean else 0.0


def vwap(s: Slow, t: int) -> float:
    volume = sum(row["volume"] for row in s.so_far(t))
    value = sum((row["high"] + row["low"] + row["close"]) / 3 * row["volume"] for row in s.so_far(t))
    return 1e4 * (s.rows[t]["close"] * volume / value - 1) if volume else 0.0


DEFINITIONS: dict[str, Definition] = {
    "vol_ratio_30": volume_ratio,
    "vwap": vwap,
}
