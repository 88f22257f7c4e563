"""The one list of features: names, formulas, bounds and warm-up. Imports nothing heavy.

Symbols: C, H, L, V close, high, low, volume of the bar; r one-bar log return; s the bar's session;
D the profile of s so far; ATR mean true range of the 14 sessions before s, at least one tick.
"d" counts sessions, "m" bars. Windows span the daily break and, while the contract is the front one, the roll:
sessions and prices before it are the predecessor's, ratio-adjusted. Volumes are as they were traded.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

Bounds = tuple[float, float]


class Feature(NamedTuple):
    """What is known of a feature without computing it.

    ``hard`` bounds follow from mathematics or exchange rules: a value outside is an error. ``soft``
    bounds are the usual range: values outside are worth a look. NaN may occur only while fewer than
    ``warmup_sessions`` sessions, or ``warmup_bars`` bars, of the contract, or of its predecessors, came before.
    Windows of bars declare two sessions, because a delivery may begin late in its first one.
    """

    name: str
    family: str
    formula: str
    window: str
    unit: str
    hard: Bounds
    soft: Bounds
    warmup_sessions: int
    warmup_bars: int = 0


_UNBOUNDED: Bounds = (-inf, inf)
_POSITIVE: Bounds = (0, inf)

_FEATURES = (
    Feature("close_change_pct", "price", "100 (C / C[-1] - 1)", "1 m", "%", (-20, 20), (-0.25, 0.25), 1, 1),
    Feature("price_range", "price", "100 (H - L) / C", "1 m", "%", _POSITIVE, (0, 0.35), 0),
    Feature("price_mom_3d", "price", "100 ln(C / close of s-3)", "3 d", "%", (-50, 50), (-6.5, 6.5), 3),
    Feature("price_mom_5d", "price", "100 ln(C / close of s-5)", "5 d", "%", (-50, 50), (-8, 8), 5),
    Feature("mom_15m", "price", "1e4 ln(C / C[-15])", "15 m", "bp", (-2000, 2000), (-90, 90), 2, 15),
    Feature("mom_60m", "price", "1e4 ln(C / C[-60])", "60 m", "bp", (-2000, 2000), (-180, 180), 2, 60),
    Feature("vol_ratio_30", "volume", "V / mean V; 0 if none traded", "30 m", "ratio", (0, 30), (0, 12), 2, 29),
    Feature("vwap", "volume", "1e4 (C / VWAP of s - 1), priced (H+L+C)/3; 0 before the first trade of s",
            "session", "bp", (-2000, 2000), (-200, 200), 0),
    Feature("rv_30", "volatility", "100 sqrt(1380 mean r^2)", "30 m", "%/day", _POSITIVE, (0.05, 6), 2, 30),
    Feature("rv_390", "volatility", "100 sqrt(1380 mean r^2)", "390 m", "%/day", _POSITIVE, (0.1, 4.5), 2, 390),
    Feature("vpoc_dev_dist", "levels", "(C - VPOC of D) / ATR", "session", "ATR", _UNBOUNDED, (-2, 2), 14),
    Feature("vah_dev_dist", "levels", "(VAH of D - C) / ATR", "session", "ATR", _UNBOUNDED, (-1.5, 3), 14),
    Feature("val_dev_dist", "levels", "(C - VAL of D) / ATR", "session", "ATR", _UNBOUNDED, (-1.5, 3), 14),
    Feature("va_pos_dev", "levels", "(C - VAL) / max(VAH - VAL, 4 ticks) of D, clipped to -5..6",
            "session", "widths", (-5, 6), (-4, 5), 0),
    Feature("va_width_dev", "levels", "(VAH - VAL) of D / ATR", "session", "ATR", _POSITIVE, (0, 3), 14),
    Feature("vpoc_prev_dist", "levels", "(C - VPOC of s-1) / ATR", "1 d", "ATR", _UNBOUNDED, (-3, 3), 14),
    Feature("va_pos_prev", "levels", "(C - VAL) / max(VAH - VAL, 4 ticks) of s-1",
            "1 d", "widths", _UNBOUNDED, (-12, 12), 1),
    Feature("vpoc_migr_5d", "levels", "(VPOC of s-1 - VPOC of s-6) / ATR", "6 d", "ATR", _UNBOUNDED, (-6, 6), 14),
    Feature("vix_lag1", "vix", "last VIX close published before the bar", "1 d", "points", (0, 150), (9, 40), 0),
    Feature("vix_chg_5d", "vix", "ln(VIX[-1] / VIX[-6]) of the closes published before the bar",
            "5 d", "ln", (-2, 2), (-0.7, 0.85), 8),
    Feature("tod_sin", "calendar", "sin(2 pi m / 1380), m minutes since 17:00 Chicago", "-", "-", (-1, 1), (-1, 1), 0),
    Feature("tod_cos", "calendar", "cos(2 pi m / 1380), m minutes since 17:00 Chicago", "-", "-", (-1, 1), (-1, 1), 0),
    Feature("is_rth", "calendar", "1 from 08:30 to 15:00 Chicago, else 0", "-", "0/1", (0, 1), (0, 1), 0),
    Feature("dow", "calendar", "weekday of s / 4, Monday 0", "-", "-", (0, 1), (0, 1), 0),
    Feature("days_to_roll", "calendar", "sessions from s up to the scheduled roll; 0 from it on",
            "-", "sessions", (0, 70), (0, 70), 0),
    Feature("gap_open", "calendar", "(open of s - close of s-1) / ATR", "1 d", "ATR", _UNBOUNDED, (-1.5, 1.5), 14),
)  # fmt: skip

REGISTRY: dict[str, Feature] = {feature.name: feature for feature in _FEATURES}
FEATURE_NAMES: tuple[str, ...] = tuple(REGISTRY)
