"""The VIX as it was known when the bar started, by itself and against realised volatility."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs
from vpoc_ml.features.volatility import yz_20d


def vix_lag1(x: Inputs) -> Floats:
    """Last VIX close published strictly before the bar, in points."""
    return x.frame["vix"].cast(float).fill_null(np.nan).to_numpy()


def vix_chg_5d(x: Inputs) -> Floats:
    """Log change over the last five published closes."""
    close = x.vix["close"].to_numpy()
    published, starts = (series.to_physical().to_numpy() for series in (x.vix["available_at"], x.frame["ts"]))
    last = np.searchsorted(published, starts, side="left") - 1
    known = last >= 5
    change = np.full(starts.size, np.nan)
    change[known] = np.log(close[last[known]] / close[last[known] - 5])
    return change


def vrp(x: Inputs) -> Floats:
    """Log of the VIX over the volatility of the last 20 sessions, both percent a year: the premium asked for variance.

    Bollerslev, Tauchen and Zhou 2009, "Expected stock returns and variance risk premia", as a ratio.
    """
    return np.asarray(np.log(vix_lag1(x) / yz_20d(x)), np.float64)
