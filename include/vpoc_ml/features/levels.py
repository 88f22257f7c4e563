"""Where the close stands against VPOC and value area, of this session so far and of the one before."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs

NARROWEST = 4
"""Ticks a value area counts at least: in a session's first bars it is one or two prices wide."""


def vpoc_dev_dist(x: Inputs) -> Floats:
    """Close minus the developing VPOC, in ATR."""
    return (x.close - x.levels["vpoc"]) / x.of_session(x.atr)


def vah_dev_dist(x: Inputs) -> Floats:
    """Developing VAH minus the close, in ATR: above 0 below the value area's upper end."""
    return (x.levels["vah"] - x.close) / x.of_session(x.atr)


def val_dev_dist(x: Inputs) -> Floats:
    """Close minus the developing VAL, in ATR: above 0 above the value area's lower end."""
    return (x.close - x.levels["val"]) / x.of_session(x.atr)


def va_pos_dev(x: Inputs) -> Floats:
    """Position in the developing value area: 0 at VAL, 1 at VAH, clipped to -5..6."""
    return np.clip(_position(x, x.levels["val"], x.levels["vah"]), -5, 6)


def va_width_dev(x: Inputs) -> Floats:
    """Width of the developing value area, in ATR."""
    return (x.levels["vah"] - x.levels["val"]) / x.of_session(x.atr)


def vpoc_prev_dist(x: Inputs) -> Floats:
    """Close minus the VPOC of the session before, in ATR."""
    return (x.close - x.of_session(x.daily["vpoc"], 1)) / x.of_session(x.atr)


def va_pos_prev(x: Inputs) -> Floats:
    """Position in the value area of the session before: 0 at VAL, 1 at VAH."""
    return _position(x, x.of_session(x.daily["val"], 1), x.of_session(x.daily["vah"], 1))


def vpoc_migr_5d(x: Inputs) -> Floats:
    """VPOC of the session before minus that of the session five before it, in ATR."""
    return (x.of_session(x.daily["vpoc"], 1) - x.of_session(x.daily["vpoc"], 6)) / x.of_session(x.atr)


def _position(x: Inputs, val: np.ndarray, vah: np.ndarray) -> Floats:
    return np.asarray((x.close - val) / np.maximum(vah - val, NARROWEST), np.float64)
