"""The volume on every price, as a profile chart draws it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InsufficientSessionsError
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, session_profile
from vpoc_ml.profile.tick_bars import SPREADS, tick_bars


class Histogram(NamedTuple):
    """Contracts traded (``volume``) at each tick price (``prices``, ascending, without gaps)."""

    prices: NDArray[np.float64]
    volume: NDArray[np.float64]


def volume_profile(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig | None = None) -> Histogram:
    """Return the contracts on every price from the lowest low to the highest high of ``bars``.

    Args:
        bars: canonical bars of one contract, any span, sorted by ``ts``.
        instrument: gives the tick size.
        config: the spread; the default is uniform.

    Raises:
        InsufficientSessionsError: there are no bars.
        ArtifactError: as ``tick_bars``.
    """
    if bars.is_empty():
        raise InsufficientSessionsError("a volume profile", 0, 1, "a profile is made of bars")
    ticks = tick_bars(bars, instrument)
    units = session_profile(ticks, SPREADS[(config or ProfileConfig()).spread])
    prices = (ticks.low.min() + np.arange(units.size)) * instrument.tick_size
    return Histogram(prices, units / SCALE)
