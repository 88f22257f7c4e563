"""Days of 20 minutes: contracts of half a year, small enough to run every stage on."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument

MINUTES = 20
CALENDAR = sessions(instrument("ES").calendar, date(2024, 1, 2), date(2024, 7, 31))
DAYS: list[date] = CALENDAR["session"].to_list()


def walk(start: int, first: int, last: int, seed: int) -> npt.NDArray[np.float64]:
    """Closes of the days ``first`` to ``last`` of one walk over all of them, from ``start`` ticks on."""
    steps = np.cumsum(np.random.default_rng(seed).integers(-3, 4, len(DAYS) * MINUTES))
    closes = 0.25 * (start + steps[first * MINUTES : (last + 1) * MINUTES])
    return closes.astype(np.float64)


def bars_of(code: str, first: int, last: int, closes: npt.NDArray[np.float64], busy: range) -> pl.DataFrame:
    """Bars of the days ``first`` to ``last``; a contract trades much on the ``busy`` days only."""
    table = CALENDAR.slice(first, last + 1 - first)
    day = np.arange(first, last + 1).repeat(MINUTES)
    timestamps = [begin + timedelta(minutes=minute) for begin in table["rth_open"] for minute in range(MINUTES)]
    return pl.DataFrame(
        {
            "ts": pl.Series(timestamps, dtype=pl.Datetime("us", "UTC")),
            "contract": [code] * len(timestamps),
            "session": [each for each in table["session"] for _ in range(MINUTES)],
            "rth": [True] * len(timestamps),
            **{name: closes + shift for name, shift in (("open", 0), ("high", 0.5), ("low", -0.5), ("close", 0))},
            "volume": np.where((day >= busy.start) & (day < busy.stop), 500, 20 + day % 7),
            "vix": np.full(len(timestamps), 15.0),
        }
    )
