"""Slow definitions of the price family."""

from __future__ import annotations

import math
import statistics

from .oracle_market import NAN, Definition, Slow


def momentum(s: Slow, t: int, bars: int) -> float:
    return 1e4 * math.log(s.rows[t]["close"] / s.rows[t - bars]["close"]) if t >= bars else NAN


def since_close(s: Slow, t: int, ago: int) -> float:
    day = s.day_before(t, ago)
    return NAN if day is None else 100 * math.log(s.rows[t]["close"] / s.of_day[day][-1]["close"])


def run_in(s: Slow, t: int) -> list[float]:
    """Closes from 390 bars before the session to the bar; none where there are fewer."""
    first = t + 1 - len(s.so_far(t))
    return [row["close"] for row in s.rows[first - 390 : t + 1]] if first >= 390 else []


def rsi(s: Slow, t: int) -> float:
    closes = run_in(s, t)
    if not closes:
        return NAN
    weighed = [(b - a) * (13 / 14) ** ago for ago, (a, b) in enumerate(pairwise_backwards(closes))]
    moved = sum(abs(change) for change in weighed)
    return 100 * sum(change for change in weighed if change > 0) / moved if moved else 50.0


def pairwise_backwards(values: list[float]) -> list[tuple[float, float]]:
    return [(values[at - 1], values[at]) for at in range(len(values) - 1, 0, -1)]


def ema(values: list[float], bars: int) -> list[float]:
    smooth = [values[0]]
    for value in values[1:]:
        smooth.append((2 * value + (bars - 1) * smooth[-1]) / (bars + 1))
    return smooth


def macd(s: Slow, t: int) -> float:
    closes = run_in(s, t)
    if not closes:
        return NAN
    line = [fast - slow for fast, slow in zip(ema(closes, 12), ema(closes, 26), strict=True)]
    return 1e4 * (line[-1] - ema(line, 9)[-1]) / closes[-1]


def bollinger(s: Slow, t: int) -> float:
    if t < 19:
        return NAN
    closes = [row["close"] for row in s.rows[t - 19 : t + 1]]
    spread = statistics.stdev(closes)
    return (closes[-1] - statistics.mean(closes)) / spread if spread else 0.0


def position(close: float, low: float, high: float) -> float:
    return (close - low) / (high - low) if high > low else 0.5


def donchian(s: Slow, t: int) -> float:
    if t < 59:
        return NAN
    rows = s.rows[t - 59 : t + 1]
    return position(rows[-1]["close"], min(row["low"] for row in rows), max(row["high"] for row in rows))


DEFINITIONS: dict[str, Definition] = {
    "close_change_pct": lambda s, t: 100 * (s.rows[t]["close"] / s.rows[t - 1]["close"] - 1) if t else NAN,
    "price_range": lambda s, t: 100 * (s.rows[t]["high"] - s.rows[t]["low"]) / s.rows[t]["close"],
    "price_mom_3d": lambda s, t: since_close(s, t, 3),
    "price_mom_5d": lambda s, t: since_close(s, t, 5),
    "price_mom_20d": lambda s, t: since_close(s, t, 20),
    "mom_15m": lambda s, t: momentum(s, t, 15),
    "mom_60m": lambda s, t: momentum(s, t, 60),
    "mom_sess": lambda s, t: 1e4 * math.log(s.rows[t]["close"] / s.so_far(t)[0]["open"]),
    "close_loc": lambda s, t: position(*(s.rows[t][name] for name in ("close", "low", "high"))),
    "rsi_14": rsi,
    "macd_hist": macd,
    "bb_z_20": bollinger,
    "donch_pos_60": donchian,
}
