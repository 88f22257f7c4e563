"""Slow definitions of the volume family."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from .oracle_market import NAN, Definition, Slow

Row = dict[str, Any]


def vwap(s: Slow, t: int) -> float:
    volume = sum(row["volume"] for row in s.so_far(t))
    value = sum((row["high"] + row["low"] + row["close"]) / 3 * row["volume"] for row in s.so_far(t))
    return 1e4 * (s.rows[t]["close"] * volume / value - 1) if volume else 0.0


def vwap_z(s: Slow, t: int) -> float:
    rows = s.so_far(t)
    volume = sum(row["volume"] for row in rows)
    if not volume:
        return 0.0
    prices = [(row["high"] + row["low"] + row["close"]) / 3 for row in rows]
    mean = sum(price * row["volume"] for price, row in zip(prices, rows, strict=True)) / volume
    variance = sum((price - mean) ** 2 * row["volume"] for price, row in zip(prices, rows, strict=True)) / volume
    return min(max((rows[-1]["close"] - mean) / max(math.sqrt(variance), 0.25), -10), 10)


def volume_ratio(s: Slow, t: int) -> float:
    if t < 29:
        return NAN
    mean = sum(row["volume"] for row in s.rows[t - 29 : t + 1]) / 30
    return s.rows[t]["volume"] / mean if mean else 0.0


def clock(row: Row) -> int:
    """Minutes from 17:00 Chicago to the bar."""
    local: datetime = row["ts"].astimezone(ZoneInfo("America/Chicago"))
    return ((local.hour - 17) % 24) * 60 + local.minute


def spanning(s: Slow, t: int) -> list[list[Row]]:
    """Rows of each of the 20 sessions before in which the bar's minute lies between first and last bar."""
    days = [s.of_day[s.day_before(t, ago)] for ago in range(1, 21)]
    return [rows for rows in days if clock(rows[0]) <= clock(s.rows[t]) <= clock(rows[-1])]


def volume_z(s: Slow, t: int) -> float:
    if s.day_before(t, 20) is None:
        return NAN
    earlier = [sum(row["volume"] for row in rows if clock(row) == clock(s.rows[t])) for rows in spanning(s, t)]
    if len(earlier) < 5:
        return 0.0
    logs = [math.log(1 + volume) for volume in earlier]
    return (math.log(1 + s.rows[t]["volume"]) - statistics.mean(logs)) / max(statistics.stdev(logs), 0.25)


def relative_volume(s: Slow, t: int) -> float:
    if s.day_before(t, 20) is None:
        return NAN
    earlier = [sum(row["volume"] for row in rows if clock(row) <= clock(s.rows[t])) for rows in spanning(s, t)]
    if len(earlier) < 5 or not sum(earlier):
        return 1.0
    return sum(row["volume"] for row in s.so_far(t)) / statistics.mean(earlier)


def over_bars(bars: int, value: Callable[[list[float], list[int], list[float]], float]) -> Definition:
    """Make a definition of the last changes of the close in points, their volumes and their closes."""

    def definition(s: Slow, t: int) -> float:
        if t < bars:
            return NAN
        rows = s.rows[t - bars + 1 : t + 1]
        before = s.rows[t - bars : t]
        changes = [row["close"] - last["close"] for row, last in zip(rows, before, strict=True)]
        return value(changes, [row["volume"] for row in rows], [row["close"] for row in rows])

    return definition


def sign(change: float) -> int:
    return (change > 0) - (change < 0)


def imbalance(changes: list[float], volumes: list[int], _: list[float]) -> float:
    return sum(sign(c) * v for c, v in zip(changes, volumes, strict=True)) / sum(volumes) if sum(volumes) else 0.0


def kyle(changes: list[float], volumes: list[int], _: list[float]) -> float:
    flow = [sign(c) * v / 1000 for c, v in zip(changes, volumes, strict=True)]
    if statistics.pvariance(flow) == 0:
        return 0.0
    return min(max(statistics.linear_regression(flow, [4 * change for change in changes]).slope, -1000), 1000)


def amihud(changes: list[float], volumes: list[int], closes: list[float]) -> float:
    each = [
        1e4 * abs(math.log(close / (close - change))) / (close * volume * 50 / 1e6)
        for change, volume, close in zip(changes, volumes, closes, strict=True)
        if volume
    ]
    return math.log10(max(statistics.mean(each), 1e-4)) if each else -4.0


def size_with_volume(changes: list[float], volumes: list[int], _: list[float]) -> float:
    moved, traded = [abs(change) for change in changes], [math.log(1 + volume) for volume in volumes]
    if len(set(moved)) == 1 or len(set(traded)) == 1:
        return 0.0
    return statistics.correlation(moved, traded)


DEFINITIONS: dict[str, Definition] = {
    "vol_z_tod": volume_z,
    "vol_ratio_30": volume_ratio,
    "rvol_sess": relative_volume,
    "ofi_20": over_bars(20, imbalance),
    "kyle_lambda_60": over_bars(60, kyle),
    "amihud_60": over_bars(60, amihud),
    "vwap": vwap,
    "vwap_z": vwap_z,
    "pv_corr_60": over_bars(60, size_with_volume),
}
