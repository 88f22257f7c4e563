"""Bars for the tests of the volume profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile.reference import Bar

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
                stamp, session = opened + timedelta(minutes=minute), date(2025, 1, 6) + timedelta(days=day)
                rows.append((stamp, "ESH25", session, rth, low, high, low, close, bar[3]))
        names = ("ts", "contract", "session", "rth", "open", "high", "low", "close", "volume")
        return pl.DataFrame(rows, schema=names, orient="row").with_columns(
            pl.col("ts").cast(pl.Datetime("us", "UTC")), pl.col("volume").cast(pl.Int64)
        )

    return make
