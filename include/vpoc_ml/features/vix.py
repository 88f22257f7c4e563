"""The VIX as known when the bar started, alone and relative to realised volatility."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.series import dates_before, when_published


def vix_lag1(x: Inputs) -> Floats:
    """Last VIX close published strictly before the bar, in points."""
    return x.vix_close


def vix_chg_5d(x: Inputs) -> Floats:
    """Log change over the last five published closes.

    For a VIX within the day: the change since the last value of the fifth date before.
    """
    close = x.vix["close"].to_numpy()
    change = np.log(np.append(np.nan, close) / dates_before(close, x.vix["date"]))
    return when_published(x.ts, x.vix["available_at"].to_physical().to_numpy(), change)


def vrp(x: Inputs) -> Floats:
    """Log of the VIX over the volatility of the last 20 sessions, both percent per year: the variance risk premium.

    Bollerslev, Tauchen and Zhou 2009, "Expected stock returns and variance risk premia", as a ratio.
    """
    return np.asarray(np.log(x.vix_close / x.of_session(x.yang_zhang)), np.float64)
