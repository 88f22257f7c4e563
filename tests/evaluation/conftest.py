"""A training set small enough to think about, with or without a planted signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.track_record import Fold, FoldModel, Period
from vpoc_ml.market import instruments
from vpoc_ml.market.instruments import Instrument

FEATURES = ("signal", "noise")


@dataclass(frozen=True)
class FakeModel:
    """Predicts ``slope`` times its first feature around ``zero_rank``."""

    slope: float = 1.0
    zero_rank: float = 0.5
    features: tuple[str, ...] = FEATURES

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.clip(self.zero_rank + self.slope * np.tanh(features[:, 0]), 0, 1).astype(np.float32)

    @property
    def part_zero_ranks(self) -> dict[str, float]:
        return {}

    def parts(self, features: np.ndarray) -> np.ndarray:
        return self.predict(features)[None].astype(np.float64)

    def mixed(self, parts: np.ndarray) -> np.ndarray:
        return parts[0]


def training_set(*, strength: float = 0.0, sessions: int = 40, bars: int = 200, seed: int = 1) -> pl.DataFrame:
    """Bars of a tick-grid random walk whose next return is ``strength`` * sign(signal) ahead of chance.

    The signal is weak for small values of the feature and strong for large ones, so a direction taken
    from it beats every baseline. The first 60 % of the sessions train, 20 % validate, 20 % test.
    """
    rng = np.random.default_rng(seed)
    n = sessions * bars
    signal = rng.standard_normal(n)
    volatility = np.repeat(rng.lognormal(0, 0.4, sessions), bars)
    shock = rng.standard_t(4, n) * volatility
    moves = np.round((strength * np.abs(signal) ** 0.5 * np.sign(signal) * volatility + shock) * 2) * 0.25
    opens = 5000 + np.concatenate([[0.0], np.cumsum(moves)[:-1]])
    start = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
    days = np.repeat(np.arange(sessions), bars)
    timestamps = [start + timedelta(days=day, minutes=minute) for day in range(sessions) for minute in range(bars)]
    ret = np.log((opens + moves) / opens)
    split = np.where(days < 0.6 * sessions, "train", np.where(days < 0.8 * sessions, "validation", "test"))
    known = np.sort(ret[split == "train"])
    y = 0.5 * (np.searchsorted(known, ret, "left") + np.searchsorted(known, ret, "right")) / len(known)
    return pl.DataFrame(
        {
            "ts": pl.Series(timestamps, dtype=pl.Datetime("us", "UTC")),
            "contract": "ESH25",
            "session": pl.Series([date(2025, 1, 6) + timedelta(days=int(d)) for d in days]),
            "split": split,
            "label_end": pl.Series(timestamps, dtype=pl.Datetime("us", "UTC")) + timedelta(minutes=1),
            "ret": ret,
            "y": pl.Series(y, dtype=pl.Float32),
            "weight": pl.Series(np.ones(n), dtype=pl.Float32),
            "entry_price": opens,
            "exit_price": opens + moves,
            "last_ret": np.concatenate([[np.nan], ret[:-1]]),
            "signal": pl.Series(signal, dtype=pl.Float32),
            "noise": pl.Series(rng.standard_normal(n), dtype=pl.Float32),
        }
    )


def plan_of(
    track: pl.DataFrame, parts: dict[str, float] | None = None, slope: float | None = None
) -> tuple[list[Fold], dict[str, FoldModel]]:
    """Return the folds of a track record, and records of their models with these weights and slope."""
    folds, models = [], {}
    for number, name in enumerate(track["fold"].unique(maintain_order=True)):
        days = track.filter(pl.col("fold") == name)["session"].unique().sort()
        test = Period(first=days[0], last=days[-1], sessions=len(days))
        window = Period(first=date(2024, 1, 1), last=date(2024, 12, 31), sessions=100 + number)
        folds.append(Fold(name=name, key=name.lower(), train=window, validation=window, test=test))
        own: dict[str, Any] = {"best_epoch": 3, "preset": "smoke", "train_rows": 1000, "parts": parts or {}}
        models[name] = FoldModel.model_construct(**own, slope=slope)
    return folds, models


def zero_rank(frame: pl.DataFrame) -> float:
    ret = frame.filter(pl.col("split") == "train")["ret"].to_numpy()
    return float(((ret < 0).mean() + (ret <= 0).mean()) / 2)


@pytest.fixture
def instrument() -> Instrument:
    return instruments.instrument("ES")


@pytest.fixture
def make_set() -> Callable[..., pl.DataFrame]:
    """Return ``training_set``: strength, sessions, bars, seed -> frame."""
    return training_set


@pytest.fixture
def fake() -> Callable[..., FakeModel]:
    """Return a maker of fake models whose threshold fits the frame: frame, slope -> model."""

    def make(frame: pl.DataFrame, slope: float = 0.05) -> FakeModel:
        return FakeModel(slope, zero_rank(frame))

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a training set into a run folder."""

    def make(frame: pl.DataFrame, name: str = "run") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        frame.write_parquet(folder / "training_set.parquet")
        return folder

    return make
