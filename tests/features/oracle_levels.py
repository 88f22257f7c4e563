"""Slow definitions of the levels family."""

from __future__ import annotations

from .oracle_market import NAN, Definition, Slow


def vpoc_dev(s: Slow, t: int) -> float:
    return (s.rows[t]["close"] - s._levels(s.so_far(t))[0]) / s.atr(t)


def position_dev(s: Slow, t: int) -> float:
    _, vah, val = s._levels(s.so_far(t))
    return min(max((s.rows[t]["close"] - val) / max(vah - val, 1.0), -5), 6)


def vpoc_prev(s: Slow, t: int) -> float:
    day = s.day_before(t, 1)
    return NAN if day is None else (s.rows[t]["close"] - s.levels[day][0]) / s.atr(t)


def migration(s: Slow, t: int) -> float:
    last, first = s.day_before(t, 1), s.day_before(t, 6)
    return NAN if first is None else (s.levels[last][0] - s.levels[first][0]) / s.atr(t)


def width_dev(s: Slow, t: int) -> float:
    _, vah, val = s._levels(s.so_far(t))
    return (vah - val) / s.atr(t)


def position_prev(s: Slow, t: int) -> float:
    day = s.day_before(t, 1)
    if day is None:
        return NAN
    _, vah, val = s.levels[day]
    return (s.rows[t]["close"] - val) / max(vah - val, 1.0)


DEFINITIONS: dict[str, Definition] = {
    "vpoc_dev_dist": vpoc_dev,
    "vah_dev_dist": lambda s, t: (s._levels(s.so_far(t))[1] - s.rows[t]["close"]) / s.atr(t),
    "val_dev_dist": lambda s, t: (s.rows[t]["close"] - s._levels(s.so_far(t))[2]) / s.atr(t),
    "va_pos_dev": position_dev,
    "va_width_dev": width_dev,
    "vpoc_prev_dist": vpoc_prev,
    "va_pos_prev": position_prev,
    "vpoc_migr_5d": migration,
}
