"""Slow definitions of the levels family."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
from scipy.signal import find_peaks
from tests.profile import reference
from tests.profile.reference import Bar

from .oracle_market import NAN, Definition, Slow


def vpoc_dev(s: Slow, t: int) -> float:
    return (s.rows[t]["close"] - s.levels_of(s.so_far(t))[0]) / s.atr(t)


def position_dev(s: Slow, t: int) -> float:
    _, vah, val = s.levels_of(s.so_far(t))
    return NAN if isnan(val) else min(max((s.rows[t]["close"] - val) / max(vah - val, 1.0), -5), 6)


def vpoc_prev(s: Slow, t: int) -> float:
    day = s.day_before(t, 1)
    return NAN if day is None else (s.rows[t]["close"] - s.levels[day][0]) / s.atr(t)


def migration(s: Slow, t: int) -> float:
    last, first = s.day_before(t, 1), s.day_before(t, 6)
    return NAN if first is None else (s.levels[last][0] - s.levels[first][0]) / s.atr(t)


def width_dev(s: Slow, t: int) -> float:
    _, vah, val = s.levels_of(s.so_far(t))
    return (vah - val) / s.atr(t)


def profile(rows: list[dict[str, Any]]) -> dict[int, int]:
    """Units by tick."""
    return reference.profile_of(
        [Bar(int(row["low"] * 4), int(row["high"] * 4), int(row["close"] * 4), row["volume"]) for row in rows]
    )


def share_at_vpoc(s: Slow, t: int) -> float:
    units = profile(s.so_far(t))
    return units[reference.vpoc_of(units)] / sum(units.values()) if any(units.values()) else 1.0


def share_below(s: Slow, t: int) -> float:
    units = profile(s.so_far(t))
    below = sum(held for tick, held in units.items() if tick <= 4 * s.rows[t]["close"])
    return below / sum(units.values()) if any(units.values()) else 0.5


def naked(s: Slow, t: int, way: int) -> float:
    """Look at each of 20 VPOCs, and at every bar after its session, up to this one."""
    if s.day_before(t, 20) is None:
        return NAN
    close, away = s.rows[t]["close"], [5 * s.atr(t)]
    for ago in range(1, 21):
        day = s.day_before(t, ago)
        level = s.levels[day][0]
        later = [row for row in s.rows[: t + 1] if row["session"] > day]
        if not any(row["low"] <= level <= row["high"] for row in later) and way * (level - close) > 0:
            away.append(abs(level - close))
    return min(away) / s.atr(t)


def node(s: Slow, t: int) -> float:
    first, last = s.day_before(t, 5), s.day_before(t, 1)
    if first is None:
        return NAN
    rows = [row for row in s.rows if first <= row["session"] <= last]
    if not any(row["volume"] for row in rows):
        return NAN
    near = min(high_nodes(rows), key=lambda tick: (abs(tick / 4 - s.rows[t]["close"]), tick))
    return min(max((s.rows[t]["close"] - near / 4) / s.atr(t), -5), 5)


def high_nodes(rows: list[dict[str, Any]]) -> list[int]:
    """Ticks of the hills by scipy, exact because doubles hold all integers this small."""
    units = profile(rows)
    heights = np.pad(np.convolve(np.array(list(units.values()), float), [1, 2, 3, 2, 1])[2:-2], 1)
    peaks, found = find_peaks(heights, prominence=0)
    return [min(units) + int(peak) - 1 for peak in peaks[20 * found["prominences"] >= 3 * heights.max()]]


def position_prev(s: Slow, t: int) -> float:
    day = s.day_before(t, 1)
    if day is None:
        return NAN
    _, vah, val = s.levels[day]
    return NAN if isnan(val) else (s.rows[t]["close"] - val) / max(vah - val, 1.0)


DEFINITIONS: dict[str, Definition] = {
    "vpoc_dev_dist": vpoc_dev,
    "vah_dev_dist": lambda s, t: (s.levels_of(s.so_far(t))[1] - s.rows[t]["close"]) / s.atr(t),
    "val_dev_dist": lambda s, t: (s.rows[t]["close"] - s.levels_of(s.so_far(t))[2]) / s.atr(t),
    "va_pos_dev": position_dev,
    "va_width_dev": width_dev,
    "vpoc_share": share_at_vpoc,
    "profile_cdf": share_below,
    "vpoc_prev_dist": vpoc_prev,
    "va_pos_prev": position_prev,
    "vpoc_migr_5d": migration,
    "naked_up": lambda s, t: naked(s, t, 1),
    "naked_dn": lambda s, t: naked(s, t, -1),
    "hvn_dist_5d": node,
}
