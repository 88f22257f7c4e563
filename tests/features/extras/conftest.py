"""A market long enough for every optional family, and ways to compute those families alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features import build
from vpoc_ml.features.build import build_features
from vpoc_ml.features.history import Predecessor
from vpoc_ml.features.registry import OPTIONAL_FAMILIES
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

VIX = pl.DataFrame(schema={"date": pl.Date, "close": pl.Float64, "available_at": pl.Datetime("us", "UTC")})


class Thin(NamedTuple):
    """92 sessions of about 32 bars, and the closes of another instrument that moves along, with holes."""

    bars: pl.DataFrame
    pair: pl.DataFrame


@pytest.fixture(scope="session")
def thin() -> Thin:
    es, draw = instrument("ES"), np.random.default_rng(5)
    table = sessions(es.calendar, date(2024, 10, 1), date(2025, 3, 14)).head(92)
    parts, close = [], 24_000
    for at, row in enumerate(table.iter_rows(named=True)):
        count = int(draw.integers(24, 40))
        minutes = np.sort(draw.choice(row["minutes"], count, replace=False))
        steps = draw.integers(-9, 10, count) * (draw.random(count) < 0.7)
        if at % 7 == 3:
            steps[5:20] = 0
        closes = close + int(draw.integers(-20, 21)) + np.cumsum(steps)
        opened = closes - draw.integers(-3, 4, count)
        low, high = np.minimum(closes, opened) - draw.integers(0, 4, count), np.maximum(closes, opened) + 1
        times = [row["open"] + timedelta(minutes=int(minute)) for minute in minutes]
        volume = draw.integers(0, 300, count) * (draw.random(count) < 0.9)
        parts.append(
            pl.DataFrame({"ts": times, "volume": volume}).with_columns(
                *(pl.Series(name, 0.25 * each) for name, each in
                  (("open", opened), ("high", high), ("low", low), ("close", closes))),
                contract=pl.lit("ESH25"), session=pl.lit(row["session"]), rth=pl.lit(False), vix=pl.lit(15.0),
            )
        )  # fmt: skip
        close = int(closes[-1])
    columns = ["ts", "contract", "session", "rth", "open", "high", "low", "close", "volume", "vix"]
    bars = pl.concat(parts).select(columns)
    bars = bars.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")), pl.col("volume").cast(pl.Int64))
    noise = np.exp(np.cumsum(draw.normal(0, 2e-4, bars.height)))
    pair = bars.select("ts", close=3 * pl.col("close") * noise).filter(pl.Series(draw.random(bars.height) < 0.8))
    return Thin(bars, pair)


Compute = Callable[..., pl.DataFrame]


@pytest.fixture
def only_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the features of the registry, which other tests cover."""
    monkeypatch.setattr(build, "FUNCTIONS", {})


@pytest.fixture
def extras(es: Instrument, only_extras: None) -> Compute:
    """Return a function from bars (and pair, predecessor, families) to keys and optional features."""

    def run(
        bars: pl.DataFrame,
        pair: pl.DataFrame | None,
        predecessor: Predecessor | None = None,
        families: tuple[str, ...] = OPTIONAL_FAMILIES,
    ) -> pl.DataFrame:
        config = ProfileConfig()
        levels = build_sessions(bars, es, config), build_developing(bars, es, config)
        return build_features(bars, *levels, VIX, es, predecessor, extras=families, pair=pair)

    return run
