"""Slow definitions of the volatility family."""

from __future__ import annotations

import math
import statistics

from .oracle_market import NAN, Definition, Slow


def returns(s: Slow, t: int, bars: int) -> list[float]:
    """The last log returns; none where there are fewer."""
    if t < bars:
        return []
    return [math.log(s.rows[i]["close"] / s.rows[i - 1]["close"]) for i in range(t - bars + 1, t + 1)]


def realised(s: Slow, t: int, bars: int) -> float:
    last = returns(s, t, bars)
    return 100 * math.sqrt(1380 * sum(r * r for r in last) / bars) if last else NAN


def realised_ratio(s: Slow, t: int) -> float:
    long = realised(s, t, 390)
    return 1.0 if long == 0 else realised(s, t, 30) / long


def bipower(s: Slow, t: int) -> float:
    last = returns(s, t, 390)
    if not last:
        return NAN
    total = sum(r * r for r in last)
    products = sum(abs(last[i] * last[i - 1]) for i in range(1, 390))
    return math.pi / 2 * products / total if total else 1.0


def falling_share(s: Slow, t: int) -> float:
    last = returns(s, t, 390)
    if not last:
        return NAN
    total = sum(r * r for r in last)
    return sum(r * r for r in last if r < 0) / total if total else 0.5


def session_variance(s: Slow, t: int, ago: int) -> float:
    """Sum of squared percent returns of the session ``ago`` before the bar's, the first from its open."""
    rows = s.of_day[s.day_before(t, ago)]
    prices = [rows[0]["open"], *(row["close"] for row in rows)]
    return sum((100 * math.log(prices[i] / prices[i - 1])) ** 2 for i in range(1, len(prices)))


def log_variance(s: Slow, t: int, sessions: int) -> float:
    if s.day_before(t, sessions) is None:
        return NAN
    return math.log(max(statistics.mean(session_variance(s, t, ago) for ago in range(1, sessions + 1)), 1e-4))


def parkinson(s: Slow, t: int) -> float:
    if t < 59:
        return NAN
    squares = [math.log(row["high"] / row["low"]) ** 2 for row in s.rows[t - 59 : t + 1]]
    return 100 * math.sqrt(statistics.mean(squares) / (4 * math.log(2)) * 1380)


def yang_zhang(s: Slow, t: int) -> float:
    if s.day_before(t, 21) is None:
        return NAN
    overnight, session, inside = [], [], []
    for ago in range(1, 21):
        rows, before = s.of_day[s.day_before(t, ago)], s.of_day[s.day_before(t, ago + 1)]
        opened, close = rows[0]["open"], rows[-1]["close"]
        high, low = max(row["high"] for row in rows), min(row["low"] for row in rows)
        overnight.append(math.log(opened / before[-1]["close"]))
        session.append(math.log(close / opened))
        up, down = (math.log(price / opened) for price in (high, low))
        inside.append(up * (up - session[-1]) + down * (down - session[-1]))
    k = 0.34 / (1.34 + 21 / 19)
    variance = statistics.variance(overnight) + k * statistics.variance(session) + (1 - k) * statistics.mean(inside)
    return max(100 * math.sqrt(252 * variance), 0.1)


DEFINITIONS: dict[str, Definition] = {
    "rv_30": lambda s, t: realised(s, t, 30),
    "rv_390": lambda s, t: realised(s, t, 390),
    "rv_ratio_30_390": realised_ratio,
    "bpv_ratio_390": bipower,
    "semivar_ratio_390": falling_share,
    "har_d": lambda s, t: log_variance(s, t, 1),
    "har_w": lambda s, t: log_variance(s, t, 5),
    "har_m": lambda s, t: log_variance(s, t, 22),
    "park_60": parkinson,
    "yz_20d": yang_zhang,
}
