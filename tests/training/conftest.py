"""Synthetic training sets with a known truth, written as run folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import resolve
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.lake.atomic import write_json, write_text

FEATURES = 5


@dataclass(frozen=True)
class Planted:
    """Raw features, target ranks and, per row, the probability of an up move that made the data."""

    raw: np.ndarray
    y: np.ndarray
    up: np.ndarray
    split: np.ndarray

    def captured(self, predicted: np.ndarray, part: str = "validation") -> float:
        """Share of the attainable edge over 50 % that a prediction's sign earns in expectation."""
        rows = self.split == part
        up = self.up[rows]
        earned = np.where(predicted[rows] > 0.5, up, 1 - up).mean() - 0.5
        return float(earned / (np.maximum(up, 1 - up).mean() - 0.5))


def plant(rows: int = 40_000, strength: float = 0.6, seed: int = 3) -> Planted:
    """Smooth signal in fat-tailed, badly scaled features; ``strength`` 0 is pure noise."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(rows, FEATURES))
    signal = np.tanh(latent[:, 0]) + np.sin(1.5 * latent[:, 1]) - 0.5 * latent[:, 2] * np.tanh(latent[:, 3])
    up = 1 / (1 + np.exp(-strength * signal))
    returns = np.where(rng.uniform(size=rows) < up, 1, -1) * np.abs(rng.standard_t(3, size=rows)) * 1e-4
    raw = np.sinh(latent * 1.2) * np.array([1e-4, 1.0, 30.0, 1e3, 1e6]) + np.array([0, 0, 5000.0, 0, 0])
    split = np.where(
        np.arange(rows) < 0.7 * rows, "train", np.where(np.arange(rows) < 0.9 * rows, "validation", "test")
    )
    target = RankTarget.fit(returns[split == "train"])
    return Planted(raw.astype(np.float32), target.apply(returns), up, split)


def write_run(folder: Path, planted: Planted, overrides: dict[str, Any], preset: str = "nightly") -> Path:
    """Write config, training set and statistics of a run."""
    names = [f"f{index}" for index in range(planted.raw.shape[1])]
    frame = pl.DataFrame(
        {"split": planted.split, "y": planted.y, "weight": np.isfinite(planted.y)},
        schema={"split": pl.String, "y": pl.Float32, "weight": pl.Float32},
    ).with_columns(pl.Series(name, planted.raw[:, index], dtype=pl.Float32) for index, name in enumerate(names))
    columns = [fit_robust_scaling(planted.raw[planted.split == "train", index]) for index in range(len(names))]
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "training_set.parquet")
    config = resolve(preset, {"machine.device": "cpu", "model.learners": "net", **overrides})
    write_text(folder / "config.json", config.to_json())
    statistics = {
        "features": names,
        "median": [column.median for column in columns],
        "scale": [column.scale for column in columns],
        "zero_rank": 0.5,
        "target_quantiles": [0.0] * 1001,
        "splits": {},
    }
    write_json(folder / "feature_statistics.json", statistics)
    return folder


@pytest.fixture(scope="session")
def planter() -> Callable[..., Planted]:
    """Make planted data of any size, strength and seed."""
    return plant


@pytest.fixture(scope="session")
def planted() -> Planted:
    """Smooth signal, 40,000 rows."""
    return plant()


@pytest.fixture(scope="session")
def tiny() -> Planted:
    """Smooth signal, 4,000 rows: enough to train, not to learn."""
    return plant(4_000)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder under the test's own folder."""

    def make(planted: Planted, name: str = "run", preset: str = "nightly", **overrides: Any) -> Path:
        dotted = {key.replace("__", "."): value for key, value in overrides.items()}
        return write_run(tmp_path / name, planted, dotted, preset)

    return make
