"""Small markets with known content, written as the files that the gates validate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from vpoc_ml.features.registry import PriceLookback

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)
MINUTES = 120
FIRST = date(2025, 1, 6)


@dataclass(frozen=True)
class Known:
    """A stand-in for a registered feature."""

    hard: tuple[float, float] = (-inf, inf)
    soft: tuple[float, float] = (-inf, inf)
    warmup_sessions: int = 1
    warmup_bars: int = 0
    variation_sessions: int = 1
    resting_values: tuple[float, ...] = ()
    family: str = "price"
    price_lookback: PriceLookback | None = None


REGISTRY = {
    "rsi": Known((0.0, 100.0), (5.0, 95.0)),
    "mom": Known((-inf, inf), (-400.0, 400.0), 2),
    "range": Known((0.0, inf), (-inf, inf), 0),
}


@dataclass(frozen=True)
class World:
    """Folder, files and calls of one test."""

    root: Path
    calendar: pl.DataFrame
    bars: pl.DataFrame
    features: pl.DataFrame
    training: pl.DataFrame
    now: datetime = NOW

    @property
    def registry(self) -> dict[str, Known]:
        return REGISTRY

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def file(self, name: str, frame: pl.DataFrame) -> Path:
        path = self.root / f"{name}.parquet"
        frame.write_parquet(path, row_group_size=500)
        return path


def make_calendar(days: int = 12) -> pl.DataFrame:
    """Return weekdays with a session of ``MINUTES`` minutes from 15:00 UTC."""
    sessions = [day for n in range(days * 2) if (day := FIRST + timedelta(n)).weekday() < 5][:days]
    opens = [datetime(day.year, day.month, day.day, 15, tzinfo=UTC) for day in sessions]
    return pl.DataFrame(
        {
            "session": sessions,
            "open": opens,
            "close": [timestamp + timedelta(minutes=MINUTES) for timestamp in opens],
            "minutes": [MINUTES] * days,
        },
        schema_overrides={"open": pl.Datetime("us", "UTC"), "close": pl.Datetime("us", "UTC"), "minutes": pl.Int32},
    )


def make_bars(calendar: pl.DataFrame, contract: str = "ESH25") -> pl.DataFrame:
    """Return clean bars for every minute of the calendar: a random walk on the tick grid."""
    rng = np.random.default_rng(5)
    timestamps, sessions = [], []
    for session, opens in calendar.select("session", "open").iter_rows():
        timestamps += [opens + timedelta(minutes=n) for n in range(MINUTES)]
        sessions += [session] * MINUTES
    close = 6000 + 0.25 * np.cumsum(rng.integers(-3, 4, len(timestamps)))
    open_ = np.concatenate([close[:1], close[:-1]])
    return pl.DataFrame(
        {
            "ts": pl.Series(timestamps, dtype=pl.Datetime("us", "UTC")),
            "contract": [contract] * len(timestamps),
            "session": sessions,
            "rth": [True] * len(timestamps),
            "open": open_,
            "high": np.maximum(open_, close) + 0.25,
            "low": np.minimum(open_, close) - 0.5,
            "close": close,
            "volume": rng.integers(1, 500, len(timestamps)),
            "vix": 15 + rng.normal(0, 1, len(timestamps)).round(2),
        }
    )


def make_features(bars: pl.DataFrame) -> pl.DataFrame:
    """Return features of ``REGISTRY`` with NaN exactly in the declared warm-ups."""
    rng = np.random.default_rng(6)
    sessions = sorted(bars["session"].unique())
    frame = bars.select("ts", "contract", "session").with_columns(
        rsi=pl.Series(rng.uniform(10, 90, bars.height), dtype=pl.Float32),
        mom=pl.Series(rng.normal(0, 50, bars.height), dtype=pl.Float32),
        range=pl.Series(rng.uniform(0, 1, bars.height), dtype=pl.Float32),
    )
    for name, known in REGISTRY.items():
        warm = pl.col("session") < sessions[known.warmup_sessions]
        frame = frame.with_columns(
            pl.when(warm).then(float("nan")).otherwise(pl.col(name)).cast(pl.Float32).alias(name)
        )
    return frame


def make_training(bars: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """Return a training set: sessions 3-6 train, 8-9 validation, 11-12 test; 7 and 10 are the embargo."""
    sessions = sorted(bars["session"].unique())
    split = {**dict.fromkeys(sessions[2:6], "train"), **dict.fromkeys(sessions[7:9], "validation")}
    split |= dict.fromkeys(sessions[10:12], "test")
    ret = (pl.col("close").shift(-1) / pl.col("close")).log().over("session")
    frame = bars.with_columns(
        split=pl.col("session").replace_strict(split, default=None, return_dtype=pl.String),
        label_end=pl.col("ts") + pl.duration(minutes=1),
        ret=ret.fill_null(float("nan")),
        ret_close=ret.fill_null(float("nan")),
        entry_price=pl.col("open"),
        exit_price=pl.col("close"),
        last_ret=pl.lit(0.001) * pl.col("volume"),
    )
    has = pl.col("ret").is_finite()
    frame = frame.with_columns(
        y=pl.when(has).then(0.5 + 100 * pl.col("ret")).otherwise(float("nan")).cast(pl.Float32),
        weight=has.cast(pl.Float32),
    ).filter(pl.col("split").is_not_null())
    keys = ["ts", "contract", "session", "split", "label_end", "ret", "ret_close", "y", "weight"]
    frame = frame.select(*keys, "entry_price", "exit_price", "last_ret")
    return frame.join(features.select("ts", *REGISTRY), on="ts", how="left", maintain_order="left")


@pytest.fixture
def world(tmp_path: Path) -> World:
    calendar = make_calendar()
    bars = make_bars(calendar)
    features = make_features(bars)
    return World(tmp_path, calendar, bars, features, make_training(bars, features))


@pytest.fixture
def validated(world: World) -> Callable[..., object]:
    """Return a function that validates a frame with one of the gates."""
    from vpoc_ml.quality.checks import ContractFacts, MarketFacts
    from vpoc_ml.quality.gates import validate_bars, validate_features, validate_training_set

    def run(gate: str, frame: pl.DataFrame, *, name: str = "run1", **options: Any) -> object:
        common: dict[str, Any] = {"run": name, "reports_dir": world.reports, "now": NOW}
        path = world.file(gate, frame)
        if gate == "bars":
            contract = ContractFacts(path, world.calendar, **options)
            return validate_bars({"ESH25": contract}, MarketFacts(tick_size=0.25), **common)
        if gate == "features":
            bars = {"ESH25": world.file("keys", world.bars)}
            return validate_features({"ESH25": path}, bars=bars, registry=REGISTRY, **common, **options)
        return validate_training_set(path, features=list(REGISTRY), calendar=world.calendar, **common, **options)

    return run
