"""A training set whose truth is known: which feature tells the next return, which two are alike, which one drifts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.analysis.train_validation_view import TrainValidationView, open_train_validation_view
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.targets import RankTarget

FEATURES = ("close_change_pct", "mom_15m", "vwap", "rv_30", "vix_lag1", "dow")
SPLITS = (("train", 24), ("validation", 16), ("test", 8))
CONTRACTS = ("ESH25", "ESM25", "ESU25")
BARS = 150


@dataclass(frozen=True)
class Made:
    """A run's folder and the frame that was written into it."""

    folder: Path
    frame: pl.DataFrame

    @property
    def view(self) -> TrainValidationView:
        return open_train_validation_view(self.folder)


def make_frame(*, strength: float = 0.5, interaction: float = 0.0, seed: int = 5) -> pl.DataFrame:
    """Rows of 48 sessions of three contracts.

    ``close_change_pct`` moves the next return by ``strength`` of its noise, ``mom_15m`` is nearly the same,
    the product of ``vwap`` and ``rv_30`` moves it by ``interaction``; ``vix_lag1`` rises by 3 from contract to
    contract, ``dow`` is constant. ``rv_30`` has heavy tails and a NaN in every hundredth row.
    """
    rng = np.random.default_rng(seed)
    sessions = sum(count for _, count in SPLITS)
    n = sessions * BARS
    day = np.repeat(np.arange(sessions), BARS)
    contract = np.minimum(day // 14, 2)
    signal, volume, tail = rng.standard_normal(n), rng.standard_normal(n), rng.standard_t(3, n)
    noise = rng.standard_normal(n) * np.repeat(rng.lognormal(0, 0.3, sessions), BARS)
    move = np.round(2 * (strength * signal + interaction * np.sign(volume * tail) + noise)) * 0.25
    ret = np.log1p(move / 5000)
    ret[day != np.append(day[1:], -1)] = np.nan  # the last bar of a session has no label
    columns = {
        "close_change_pct": signal,
        "mom_15m": signal + 0.2 * rng.standard_normal(n),
        "vwap": volume,
        "rv_30": np.where(np.arange(n) % 100 == 7, np.nan, tail),
        "vix_lag1": 3.0 * contract + rng.standard_normal(n),
        "dow": np.full(n, 0.25),
    }
    start = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
    known = ~np.isnan(ret)
    return pl.DataFrame(
        {
            "ts": [
                start + timedelta(days=int(d), minutes=int(m)) for m, d in zip(np.arange(n) % BARS, day, strict=True)
            ],
            "contract": [CONTRACTS[at] for at in contract],
            "session": [date(2025, 1, 6) + timedelta(days=int(d)) for d in day],
            "split": np.repeat([name for name, _ in SPLITS], [count * BARS for _, count in SPLITS]),
            "ret": ret,
            "y": pl.Series(
                ranks(ret, np.repeat([name == "train" for name, _ in SPLITS], [count * BARS for _, count in SPLITS])),
                dtype=pl.Float32,
            ),
            "weight": pl.Series(known, dtype=pl.Float32),
            "last_ret": np.concatenate([[np.nan], ret[:-1]]),
            **{name: pl.Series(values, dtype=pl.Float32) for name, values in columns.items()},
        }
    )


def ranks(ret: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The rank target of each return; NaN where there is none."""
    return RankTarget.fit(ret[train]).apply(ret)


def write_run(folder: Path, frame: pl.DataFrame, **more: object) -> Made:
    """Write a frame and the statistics of its training rows as a run has them."""
    folder.mkdir(parents=True, exist_ok=True)
    train = frame.filter(pl.col("split") == "train")
    columns = [fit_robust_scaling(train[name].to_numpy()) for name in FEATURES]
    statistics = {
        "features": list(FEATURES),
        "median": [column.median for column in columns],
        "scale": [column.scale for column in columns],
        "zero_rank": 0.5,
        "target_quantiles": [0.0] * 1001,
    }
    frame.write_parquet(folder / "training_set.parquet")
    (folder / "feature_statistics.json").write_text(json.dumps(statistics | more))
    return Made(folder, frame)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run with a planted linear signal. Read only."""
    return write_run(tmp_path_factory.mktemp("run"), make_frame())


@pytest.fixture(scope="session")
def interacting(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run in which only the product of two features tells anything. Read only."""
    return write_run(tmp_path_factory.mktemp("interacting"), make_frame(strength=0.0, interaction=0.6))


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run without any signal. Read only."""
    return write_run(tmp_path_factory.mktemp("noise"), make_frame(strength=0.0, seed=9))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Made]:
    """Write a run of its own: frame, further statistics -> run."""

    def make(frame: pl.DataFrame, name: str = "own", **more: object) -> Made:
        return write_run(tmp_path / name, frame, **more)

    return make
