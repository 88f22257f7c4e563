"""Returns and ranges."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.inputs import Floats, Inputs


def close_change_pct(x: Inputs) -> Floats:
    """Percent change of the close over one bar."""
    before = x.close_ago(1)
    return 100 * (x.close - before) / before


def price_range(x: Inputs) -> Floats:
    """High minus low in percent of the close."""
    return 100 * (x.high - x.low) / x.close


def price_mom_3d(x: Inputs) -> Floats:
    """Log return in percent since the close of the session three before."""
    return _since_session(x, 3)


def price_mom_5d(x: Inputs) -> Floats:
    """Log return in percent since the close of the session five before."""
    return _since_session(x, 5)


def mom_15m(x: Inputs) -> Floats:
    """Log return of 15 bars in basis points."""
    return 1e4 * np.log(x.close / x.close_ago(15))


def mom_60m(x: Inputs) -> Floats:
    """Log return of 60 bars in basis points."""
    return 1e4 * np.log(x.close / x.close_ago(60))


def _since_session(x: Inputs, ago: int) -> Floats:
    return 100 * np.log(x.close / x.of_session(x.daily["close"], ago))
