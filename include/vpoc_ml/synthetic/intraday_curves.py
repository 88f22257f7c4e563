"""Shape of a synthetic ES session: volume and volatility by time of day, and volume across a roll.

The half-hour values are measured on ES minute bars of 2021-2023; the single minutes are the outliers among them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Half hours from 18:00 New York to 16:30; the maintenance hour is absent.
# fmt: off
_VOLUME_SHARE = (  # percent of the day
    0.30, 0.22, 0.27, 0.27, 0.41, 0.35, 0.32, 0.35, 0.27, 0.24, 0.20, 0.18,  # 18:00-23:30
    0.18, 0.18, 0.24, 0.24, 0.37, 0.37, 0.83, 0.62, 0.66, 0.54, 0.51, 0.50,  # 00:00-05:30
    0.53, 0.55, 0.70, 0.75, 1.04, 1.80, 1.80, 10.8, 8.6, 6.9, 5.85, 5.0,  # 06:00-11:30
    4.2, 3.75, 3.85, 3.65, 4.4, 4.5, 5.1, 7.6, 2.4, 0.48,  # 12:00-16:30
)
_VOLATILITY = (  # median absolute return of a minute, bp
    0.88, 0.66, 0.73, 0.69, 1.11, 0.89, 0.87, 0.87, 0.69, 0.64, 0.62, 0.61,
    0.61, 0.61, 0.73, 0.71, 1.13, 1.05, 1.61, 1.31, 1.34, 1.17, 1.15, 1.12,
    1.15, 1.11, 1.19, 1.17, 1.21, 1.48, 1.39, 3.38, 2.90, 2.41, 2.22, 1.98,
    1.84, 1.71, 1.81, 1.69, 1.89, 1.87, 2.13, 2.55, 1.05, 0.62,
)
# fmt: on
# minute of the New York day: (volume, volatility) as multiples of its half hour
_SPECIAL_MINUTES = {
    9 * 60 + 30: (2.4, 1.35),
    10 * 60: (1.6, 1.6),
    15 * 60 + 50: (2.3, 1.9),
    15 * 60 + 58: (2.4, 1.0),
    15 * 60 + 59: (12.6, 1.7),
    16 * 60: (13.0, 2.8),
    18 * 60: (4.0, 1.0),
}
RELEASE_MINUTE = 8 * 60 + 30
_LATE = slice(17 * 60, 17 * 60 + 15)
# Share of the two contracts' volume in the next one, by sessions from the Monday of the expiry week.
_MIGRATION = {-3: 0.03, -2: 0.08, -1: 0.25, 0: 0.80, 1: 0.88, 2: 0.90, 3: 0.93, 4: 0.985}


def curves() -> tuple[Floats, Floats]:
    """Return (volume, volatility) for each minute 0..1439 of the New York day, 0 in the maintenance hour.

    Volume sums to 1 over a full session; the squares of volatility sum to 1. The minutes from 17:00 to 17:15, in which
    ES traded until September 2015, equal the minute before them and are not in the sums.
    """
    half_hours = (np.arange(46) + 36) % 48  # 18:00 is the 36th half hour of the day
    volume, volatility = np.zeros(48), np.zeros(48)
    volume[half_hours], volatility[half_hours] = _VOLUME_SHARE, _VOLATILITY
    volume, volatility = np.repeat(volume, 30), np.repeat(volatility, 30)
    for minute, (more_volume, more_volatility) in _SPECIAL_MINUTES.items():
        volume[minute] *= more_volume
        volatility[minute] *= more_volatility
    volume, volatility = volume / volume.sum(), volatility / np.sqrt((volatility**2).sum())
    volume[_LATE], volatility[_LATE] = volume[_LATE.start - 1], volatility[_LATE.start - 1]
    return volume, volatility


def next_contract_share(offset: int) -> float:
    """Return the next contract's share of the volume, ``offset`` sessions from Monday of the expiry week."""
    if offset < min(_MIGRATION):
        return 0.002 + 0.013 * math.pow(2.0, (offset - min(_MIGRATION)) / 3)
    return _MIGRATION.get(offset, 1.0)
