"""The VIX as it was known when the bar started, by itself and against realised volatility."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs

CHANGE_DAYS = 5


def vix_lag1(x: Inputs) -> Floats:
    """Last VIX close published strictly before the bar, in points."""
    return x.vix_close


def vix_chg_5d(x: Inputs) -> Floats:
    """Log change over the last five published closes.

    Of a VIX within the day: from the last value of the fifth date before.
    """
    close = x.vix["close"].to_numpy()
    day = x.vix["date"].rle_id().to_numpy()
    last = np.flatnonzero(np.append(day[1:] != day[:-1], close.size > 0))  # row of each date's last value
    old = np.flatnonzero(day >= CHANGE_DAYS)
    change = np.full(close.size + 1, np.nan)  # by the number of values published before
    change[old + 1] = np.log(close[old] / close[last[day[old] - CHANGE_DAYS]])
    published = x.vix["available_at"].to_physical().to_numpy()
    first = np.searchsorted(x.ts, published, side="right")  # of each value, the first bar that starts after it
    return np.repeat(change, np.diff(first, prepend=0, append=x.ts.size))


def vrp(x: Inputs) -> Floats:
    """Log of the VIX over the volatility of the last 20 sessions, both percent a year: the premium asked for variance.

    Bollerslev, Tauchen and Zhou 2009, "Expected stock returns and variance risk premia", as a ratio.
    """
    return np.asarray(np.log(x.vix_close / x.of_session(x.yang_zhang)), np.float64)
