"""Generalised Hurst exponent of order 2: growth of the size of a move with its length.

Di Matteo, Aste and Dacorogna, Long-term memories of developed and emerging markets, Journal of Banking and
Finance 29 (2005): the mean of |x(t + lag) - x(t)|^2 grows as lag^(2H).
"""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.series import rolling_energy

BARS = 390
LAGS = (1, 2, 4, 8, 16, 32)
SMALLEST = 1e-16
"""Smallest mean square, far below the mean square of one tick in the window."""


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the Hurst exponent of the last 390 returns: 0.5 for a random walk, less if reverting, more if trending."""
    bars = x.full_history.pad(BARS)
    return {"hurst_390m": bars.own(hurst(bars.close, BARS, LAGS))}


def hurst(close: Floats, bars: int, lags: tuple[int, ...]) -> Floats:
    """Return half the slope of ln mean square move over ln lag, clipped to 0..1; 0.5 in a flat window.

    Moves overlap. All are inside the last ``bars`` + 1 closes. NaN in the first ``bars`` rows.

    Args:
        close: (rows,) float64 prices in any unit, oldest first.
        bars: one-bar returns in the window, up to 500.
        lags: lengths of the moves in bars, increasing, below ``bars``.
    """
    logs, scale = np.log(positive(close)), np.log(np.array(lags, np.float64))
    slopes = (scale - scale.mean()) / np.sum((scale - scale.mean()) ** 2)
    exponent = np.zeros(close.size)
    flat = np.ones(close.size, np.bool_)
    for lag, slope in zip(lags, slopes, strict=True):
        moves = np.zeros(close.size)
        moves[lag:] = logs[lag:] - logs[:-lag]
        mean = rolling_energy(moves, bars + 1 - lag, first=lag) / (bars + 1 - lag)
        exponent += slope / 2 * np.log(np.maximum(mean, SMALLEST))
        flat &= mean == 0
    return np.where(flat, 0.5, np.clip(exponent, 0, 1))
