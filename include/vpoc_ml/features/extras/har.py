"""HAR forecast of a session's realised variance, refitted at the start of each session on completed sessions.

Corsi, A simple approximate long-memory model of realized volatility, Journal of Financial Econometrics 7 (2009), in
logs: ln RV of a session on ln RV of the one before, and on ln of the mean RV of the 5 and of the 22 before.
"""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs

HORIZONS = (1, 5, 22)
LONGEST_FIT = 60
SHORTEST_FIT = 30
SESSIONS = max(HORIZONS) + LONGEST_FIT + 1
"""Completed sessions a value reads at most: the fit, its regressors, and one more for the last surprise."""
SMALLEST = 1e-6
"""Variance of a session without any move, percent squared: far below the variance of one tick."""


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the forecast of ln RV of the bar's session, and ln RV of the session before minus its forecast.

    RV is that of the registry's ``har_d``: from the open to the first close, then from bar to bar.
    """
    variance = np.maximum(x.variance, SMALLEST)
    forecast, first = np.full(variance.size, np.nan), x.past_sessions
    for session in range(max(first - 1, 0), variance.size):
        forecast[session] = forecast_of(variance[max(session - SESSIONS + 1, 0) : session])
    surprise = np.log(variance) - forecast
    return {"har_forecast_1d": x.of_session(forecast), "har_surprise_1d": x.of_session(surprise, 1)}


def forecast_of(variance: Floats) -> float:
    """Return the forecast of ln RV of the session after these; NaN with fewer than 52 of them.

    Ordinary least squares on the last 60 sessions that have regressors, at least 30.

    Args:
        variance: (sessions,) RV of completed sessions in a row, oldest first.
    """
    sizes = np.arange(variance.size + 1)
    total = np.concatenate(([0], np.cumsum(variance)))
    longest = max(HORIZONS)
    if variance.size < longest + SHORTEST_FIT:
        return float("nan")
    rows = sizes[max(longest, variance.size - LONGEST_FIT) :]
    means = [np.log((total[rows] - total[rows - horizon]) / horizon) for horizon in HORIZONS]
    regressors = np.column_stack([np.ones(rows.size), *means])
    weights, *_ = np.linalg.lstsq(regressors[:-1], np.log(variance[rows[:-1]]))
    return float(regressors[-1] @ weights)
