"""Distance of the close from VPOC, value area and nodes of this session so far and of the sessions before."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats, Ints
from vpoc_ml.features.inputs import NAKED_SESSIONS, Inputs
from vpoc_ml.features.series import lagged
from vpoc_ml.profile.histogram import high_nodes_before
from vpoc_ml.profile.sessions import ABSENT
from vpoc_ml.profile.tick_bars import SPREADS

NARROWEST = 4
"""Smallest width of a value area in ticks: in a session's first bars it is one or two prices wide."""

FARTHEST = 5.0
"""Largest distance to a level in ATR. It also stands for no level."""
COMPOSITE_SESSIONS = 5


def vpoc_dev_dist(x: Inputs) -> Floats:
    """Close minus the developing VPOC, in ATR."""
    return (x.close - x.levels["vpoc"]) / x.atr


def vah_dev_dist(x: Inputs) -> Floats:
    """Developing VAH minus the close, in ATR: positive while the close is below the value area's upper end."""
    return (x.levels["vah"] - x.close) / x.atr


def val_dev_dist(x: Inputs) -> Floats:
    """Close minus the developing VAL, in ATR: positive while the close is above the value area's lower end."""
    return (x.close - x.levels["val"]) / x.atr


def va_pos_dev(x: Inputs) -> Floats:
    """Position in the developing value area: 0 at VAL, 1 at VAH, clipped to -5..6."""
    val, vah = x.levels["val"], x.levels["vah"]
    return np.clip((x.close - val) / np.maximum(vah - val, NARROWEST), -5, 6)


def va_width_dev(x: Inputs) -> Floats:
    """Width of the developing value area, in ATR."""
    return (x.levels["vah"] - x.levels["val"]) / x.atr


def vpoc_share(x: Inputs) -> Floats:
    """Share of the session's volume so far that lies at its VPOC; 1 before the first trade."""
    at_vpoc, _, total = x.profile_volumes.T
    return np.asarray(np.divide(at_vpoc, total, out=np.ones(total.size), where=total > 0), np.float64)


def profile_cdf(x: Inputs) -> Floats:
    """Share of the session's volume so far that lies at or below the close; 0.5 before the first trade."""
    _, under, total = x.profile_volumes.T
    return np.asarray(np.divide(under, total, out=np.full(total.size, 0.5), where=total > 0), np.float64)


def vpoc_prev_dist(x: Inputs) -> Floats:
    """Close minus the VPOC of the session before, in ATR."""
    return (x.close - x.of_session(x.daily["vpoc"], 1)) / x.atr


def va_pos_prev(x: Inputs) -> Floats:
    """Position in the value area of the session before: 0 at VAL, 1 at VAH."""
    val, width = x.daily["val"], np.maximum(x.daily["vah"] - x.daily["val"], NARROWEST)
    return (x.close - x.of_session(val, 1)) / x.of_session(width, 1)


def vpoc_migr_5d(x: Inputs) -> Floats:
    """VPOC of the session before minus the VPOC five sessions before that one, in ATR."""
    vpoc = x.daily["vpoc"]
    return x.of_session((lagged(vpoc, 1) - lagged(vpoc, 6)) / x.session_atr)


def naked_up(x: Inputs) -> Floats:
    """Distance to the nearest naked VPOC above the close, in ATR, at most 5; 5 if there is none.

    Naked is the VPOC of one of the last 20 completed sessions that no later bar has traded, the current bar included.
    """
    return _naked(x, x.naked[:, 1])


def naked_dn(x: Inputs) -> Floats:
    """Distance to the nearest naked VPOC below the close, in ATR, at most 5; 5 if there is none."""
    return _naked(x, x.naked[:, 2])


def hvn_dist_5d(x: Inputs) -> Floats:
    """Close minus the nearest high volume node of the composite profile of five sessions, in ATR, clipped to +-5.

    The composite holds the five sessions before. Of two equally near nodes the lower one counts. Volumes of sessions
    before the roll count as traded.
    """
    first = max(x.past_sessions - COMPOSITE_SESSIONS, 0)
    nodes = high_nodes_before(x.ticks_since(first), SPREADS[x.profile.spread], COMPOSITE_SESSIONS)
    nearest = np.full(x.close.size, np.nan)
    for begin, end, ticks in zip(x.starts[:-1], x.starts[1:], nodes[x.past_sessions - first :], strict=True):
        if ticks.size:
            between = ticks[1:] + ticks[:-1]  # twice the midpoint: below it the lower node is nearer
            nearest[begin:end] = ticks[np.searchsorted(between, 2 * x.close[begin:end])]
    return np.asarray(np.clip((x.close - nearest) / x.atr, -FARTHEST, FARTHEST), np.float64)


def _naked(x: Inputs, level: Ints) -> Floats:
    """Return the distance to a naked level in ticks, ``ABSENT`` for none; NaN before the 21st session."""
    distance = np.minimum(np.abs(level - x.close) / x.atr, FARTHEST)
    return np.where(x.day < NAKED_SESSIONS, np.nan, np.where(level == ABSENT, FARTHEST, distance))
