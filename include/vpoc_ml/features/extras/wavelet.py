"""Energy of the returns by time scale: shares of a causal Haar transform.

The transform is the a trous (undecimated) Haar transform with the filter behind the bar, in the normalisation of the
maximal overlap transform (Percival and Walden, Wavelet Methods for Time Series Analysis, 2000, chapter 5). The
coefficient of level j is half the mean of the last 2^(j-1) returns minus half the mean of as many returns before them.
A centred or decimated transform would read later bars.
"""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.series import rolling_energy

BARS = 390
LEVELS = 6
LOOKBACK = BARS + 2**LEVELS - 1


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the shares of the energy of the last 390 bars at changes over 2, 4, ... 64 bars."""
    bars = x.full_history.pad(LOOKBACK)
    shares = energy_shares(bars.close, BARS, LEVELS)
    return {f"wavelet_{2**level}m": bars.own(shares[level - 1]) for level in range(1, LEVELS + 1)}


def coefficients(close: Floats, levels: int) -> tuple[list[Floats], Floats]:
    """Return the detail coefficients of the log returns by level, and the remaining smooth.

    The mean of the last 2^j returns is a difference of two log closes, so no filter is run. The first 2^j rows of level
    j have no value and hold 0.
    """
    logs, details = np.log(positive(close)), []
    smooth = _mean_return(logs, 1)
    for level in range(1, levels + 1):
        longer = _mean_return(logs, 2**level)
        detail = smooth - longer
        detail[: 2**level] = 0
        details.append(detail)
        smooth = longer
    return details, smooth


def energy_shares(close: Floats, bars: int, levels: int) -> Floats:
    """Return (levels, rows): energy of each level over that of all levels and the smooth.

    NaN in the first ``bars`` - 1 + 2^levels rows. In a flat window the shares are those of white noise, 2^-level.

    Args:
        close: (rows,) float64 prices in any unit, oldest first.
        bars: coefficients in the window, up to 500.
        levels: number of dyadic scales.
    """
    details, smooth = coefficients(close, levels)
    energies = np.array([rolling_energy(detail, bars, first=2**levels) for detail in details])
    total = energies.sum(axis=0) + rolling_energy(smooth, bars, first=2**levels)
    white = 2.0 ** -np.arange(1, levels + 1)[:, None]
    return np.where(total == 0, white, energies / np.where(total == 0, 1, total))


def _mean_return(logs: Floats, bars: int) -> Floats:
    mean = np.zeros(logs.size)
    mean[bars:] = (logs[bars:] - logs[:-bars]) / bars
    return mean
