"""Bars for the tests of the volume profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import numba
import numpy as np
import polars as pl
import pytest
from tests.profile.reference import Bar

from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile import kernels
from vpoc_ml.profile.kernels import Ints, Rule, TickBars

MakeBars = Callable[..., pl.DataFrame]


@pytest.fixture(scope="session")
def es() -> Instrument:
    return instrument("ES")


@pytest.fixture(scope="session")
def make_bars(es: Instrument) -> MakeBars:
    """Return a function that turns lists of (low, high, close, volume) in ticks into canonical bars."""

    def make(*sessions: Sequence[Bar], rth: bool = True) -> pl.DataFrame:
        rows = []
        for day, bars in enumerate(sessions):
            opened = datetime(2025, 1, 6, 15, tzinfo=UTC) + timedelta(days=day)
            for minute, bar in enumerate(bars):
                low, high, close = (tick * es.tick_size for tick in bar[:3])
                ts, session = opened + timedelta(minutes=minute), date(2025, 1, 6) + timedelta(days=day)
                rows.append((ts, "ESH25", session, rth, low, high, low, close, bar[3]))
        names = ("ts", "contract", "session", "rth", "open", "high", "low", "close", "volume")
        return pl.DataFrame(rows, schema=names, orient="row").with_columns(
            pl.col("ts").cast(pl.Datetime("us", "UTC")), pl.col("volume").cast(pl.Int64)
        )

    return make


@numba.njit
def regrown_levels(ticks: TickBars, rule: Rule) -> Ints:
    """The direct method, compiled: spread the bar, search the full range for the VPOC, grow the area from it."""
    base = ticks.low.min()
    levels = np.empty((ticks.low.size, 3), np.int64)
    for session in range(ticks.starts.size - 1):
        profile = np.zeros(ticks.high.max() - base + 1, np.int64)
        first, last, total = profile.size, -1, 0
        for bar in range(ticks.starts[session], ticks.starts[session + 1]):
            low, high = ticks.low[bar] - base, ticks.high[bar] - base
            units = ticks.volume[bar] * kernels.SCALE
            share = units // (high - low + 1)
            profile[low : high + 1] += share
            profile[ticks.close[bar] - base] += units - share * (high - low + 1)
            first, last, total = min(first, low), max(last, high), total + units
            vpoc = kernels.find_vpoc(profile, first, last)
            val, vah, _ = kernels.find_value_area(profile, first, last, vpoc, total, rule)
            levels[bar] = (base + vpoc, base + vah, base + val)
    return levels


@pytest.fixture(scope="session")
def regrown() -> Callable[[TickBars, Rule], Ints]:
    return regrown_levels
