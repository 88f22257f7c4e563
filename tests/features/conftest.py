"""Markets for the tests of the features."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.features.build import build_features
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import available_at, read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

from .comparing import predecessor_of


class Market(NamedTuple):
    """Canonical bars of one contract and the VIX they were joined with."""

    bars: pl.DataFrame
    vix: pl.DataFrame


Compute = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="session")
def es() -> Instrument:
    return instrument("ES")


@pytest.fixture(scope="session")
def compute(es: Instrument) -> Compute:
    """Return a function from bars and VIX to features, through sessions and developing levels."""

    def run(bars: pl.DataFrame, vix: pl.DataFrame) -> pl.DataFrame:
        config = ProfileConfig()
        return build_features(bars, build_sessions(bars, es, config), build_developing(bars, es, config), vix, es)

    return run


@pytest.fixture(scope="session")
def rough() -> Market:
    """36 short sessions with flat stretches, zero volume, gaps, holidays and a thin first session."""
    draw = np.random.default_rng(17)
    table = sessions(instrument("ES").calendar, date(2025, 1, 20), date(2025, 3, 14)).head(36)
    parts, close = [], 24_000
    for at, row in enumerate(table.iter_rows(named=True)):
        count = 12 if at == 0 else int(draw.integers(60, 110))
        minutes = np.sort(draw.choice(row["minutes"], count, replace=False))
        steps = draw.integers(-6, 7, count) * (draw.random(count) < 0.6)
        if at % 5 == 2:
            steps[10:50] = 0  # longer than a window: nothing moves
        closes = close + int(draw.integers(-40, 41)) + np.cumsum(steps)
        low, high = closes - draw.integers(0, 5, count), closes + draw.integers(0, 5, count)
        volume = draw.integers(0, 400, count) * (draw.random(count) < 0.8)
        if at % 5 == 3:
            volume[:45] = 0  # the session opens without a trade, longer than a window
        times = [row["open"] + timedelta(minutes=int(minute)) for minute in minutes]
        rth = [row["rth_open"] is not None and row["rth_open"] <= t < row["rth_close"] for t in times]
        parts.append(
            pl.DataFrame({"ts": times, "rth": rth, "volume": volume}).with_columns(
                pl.lit("ESH25").alias("contract"),
                pl.lit(row["session"]).alias("session"),
                *(pl.Series(name, 0.25 * ticks) for name, ticks in (("high", high), ("low", low), ("close", closes))),
                pl.Series("open", 0.25 * np.clip(closes - steps, low, high)),
            )
        )
        close = int(closes[-1])
    vix = pl.DataFrame({"date": pl.date_range(date(2025, 1, 11), date(2025, 3, 20), eager=True)}).filter(
        pl.col("date").dt.weekday() <= 5
    )
    vix = vix.with_columns(
        pl.Series("close", 15 + draw.random(vix.height) * 10), available_at("date").alias("available_at")
    )
    bars = pl.concat(parts).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")), pl.col("volume").cast(pl.Int64))
    known = vix.select(pl.col("available_at").alias("ts"), pl.col("close").alias("vix"))
    bars = bars.join_asof(known, on="ts", allow_exact_matches=False)
    names = ["ts", "contract", "session", "rth", "open", "high", "low", "close", "volume", "vix"]
    return Market(bars.select(names), vix)


@pytest.fixture(scope="session")
def real(real_data: Path, es: Instrument) -> Market:
    """ESH25 as ingested from the vendor's file."""
    vix = read_vix(real_data / "vix" / "vix-daily.csv")
    path = real_data / "es_ninjatrader" / "ES 03-25.Last.txt"
    return Market(build_bars(path, parse_contract("ESH25"), es, vix, IngestConfig()).bars, vix)


@pytest.fixture
def as_predecessor() -> Any:
    """``comparing.predecessor_of``, for the folders below."""
    return predecessor_of
