"""Split-conformal intervals of a prediction from errors of the same model, or the same preset, out of sample.

Lei et al. 2018, "Distribution-free predictive inference for regression", with the two tails apart: a new error lies
between two order statistics of n earlier ones with at least the stated probability, if all n + 1 are exchangeable.
Errors of overlapping labels and of changing markets are not, so the coverage of new sessions is measured and reported.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpoc_ml.artifacts.metrics import Residuals

Floats = npt.NDArray[np.float64]

STEPS = 200
"""Tails are multiples of 1 / 200, coverages multiples of 1 %."""
SMALLEST_COVERAGE = 0.5
CERTAIN = 1.0
"""Distance of two ranks that no error exceeds."""


def residual_quantiles(errors: Floats) -> Residuals:
    """Return the order statistics of errors [n] in rank units; NaN do not count.

    With tail p, ``low`` is the error of rank floor(p (n + 1)) and ``high`` that of rank ceil((1 - p) (n + 1)), counted
    from 1. Where there is no such error the bound is -1 or 1.
    """
    known = np.sort(errors[np.isfinite(errors)])
    padded = np.concatenate(([-CERTAIN], known, [CERTAIN]))
    count = known.size + 1
    tails = np.arange(1, round(STEPS * (1 - SMALLEST_COVERAGE) / 2) + 1)
    below = tails * count // STEPS
    above = count - below
    return Residuals(
        rows=known.size,
        tails=tuple((tails / STEPS).tolist()),
        low=tuple(padded[below].tolist()),
        high=tuple(padded[above].tolist()),
    )


def interval_offsets(residuals: Residuals, coverage: float) -> tuple[float, float]:
    """Return what to add to a prediction for the bounds of its interval, in rank units.

    Args:
        residuals: errors of earlier predictions.
        coverage: share of new returns that the interval is to hold, 0.5 to 0.99; rounded up to whole percent.
    """
    tail = int(np.floor(STEPS * (1 - coverage) / 2 + 1e-9))
    return residuals.low[tail - 1], residuals.high[tail - 1]
