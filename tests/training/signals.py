"""Training sets with a planted signal of known strength: smooth, or in steps along the axes. Also none.

Shared by the tests and ``benchmarks/bench_signal.py``. The probability of an up move is known in each row, so a
model's direction is judged by what it earns in expectation, without the noise of the outcomes: accuracy is the
mean probability of the called side, the ceiling that of the likelier side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from vpoc_ml.config import resolve
from vpoc_ml.dataset.quantiles import quantile_edges
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.lake.atomic import write_json, write_text

Kind = Literal["smooth", "steps"]
FEATURES = 5
TICK = 0.25 / 5000
# Edges over one half that put the ceiling at 53.1 % and 51.0 %
STRONG, WEAK = 0.0375, 0.0127


@dataclass(frozen=True)
class Signal:
    """Raw features [n, 5], log returns on a grid of ticks, and the probability of an up move of each row."""

    raw: np.ndarray
    returns: np.ndarray
    up: np.ndarray
    split: np.ndarray

    @property
    def ceiling(self) -> float:
        """Accuracy of who knows the probabilities, on test rows."""
        up = self.up[self.split == "test"]
        return float(np.maximum(up, 1 - up).mean())

    def captured(self, above: np.ndarray) -> float:
        """Share of the edge over 50 % that calling the test rows where ``above`` > 0 up earns in expectation."""
        up = self.up[self.split == "test"]
        accuracy = np.where(above > 0, up, 1 - up).mean()
        return float((accuracy - 0.5) / (self.ceiling - 0.5))


def make(kind: Kind, edge: float, rows: int, seed: int = 1) -> Signal:
    """Fat-tailed features on scales from 1e-4 to 1e6, the last one without meaning; returns with fat tails.

    ``edge`` is the standard deviation of the probability of an up move; 0 is pure noise. Chronological
    parts: 70 % train, 10 % validation, 20 % test.
    """
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(rows, FEATURES))
    reported = _smooth(latent) if kind == "smooth" else _steps(latent)
    up = 0.5 + edge * (reported - reported.mean()) / reported.std()
    sizes = np.abs(rng.standard_t(3, size=rows)) * np.exp(0.6 * rng.normal(size=rows)) * 1.6e-4
    signs = np.where(rng.uniform(size=rows) < up, 1, -1)
    raw = np.sinh(1.2 * latent) * np.array([1e-4, 1.0, 30.0, 1e3, 1e6]) + np.array([0, 0, 5000.0, 0, 0])
    place = np.arange(rows) / rows
    split = np.where(place < 0.7, "train", np.where(place < 0.8, "validation", "test"))
    return Signal(raw.astype(np.float32), np.rint(signs * sizes / TICK) * TICK, up, split)


def _smooth(z: np.ndarray) -> np.ndarray:
    reported: np.ndarray = np.tanh(z[:, 0]) + 0.8 * np.sin(1.2 * z[:, 1]) - 0.4 * z[:, 2] * np.tanh(z[:, 3])
    return reported


def _steps(z: np.ndarray) -> np.ndarray:
    corner = (z[:, 2] > 0.2) & (z[:, 3] < 0.5)
    reported: np.ndarray = np.sign(z[:, 0] - 0.3) + 0.8 * np.where(np.abs(z[:, 1]) < 0.8, 1, -1) + 1.6 * corner
    return reported


def write(folder: Path, signal: Signal, preset: str = "nightly", **overrides: Any) -> Path:
    """Write the run folder that the assembly would: training set, statistics, configuration."""
    own = {key.replace("__", "."): value for key, value in overrides.items()}
    config = resolve(preset, {"machine.device": "cpu", "model.learners": "net", **own})
    train = signal.split == "train"
    target = RankTarget.fit(signal.returns[train])
    names = [f"f{at}" for at in range(FEATURES)]
    frame = pl.DataFrame(
        {"split": signal.split, "y": target.apply(signal.returns), "weight": np.ones(len(signal.split))},
        schema={"split": pl.String, "y": pl.Float32, "weight": pl.Float32},
    ).with_columns(pl.Series(name, signal.raw[:, at]) for at, name in enumerate(names))
    columns = [signal.raw[train, at] for at in range(FEATURES)]
    found = [fit_robust_scaling(column) for column in columns]
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "training_set.parquet")
    write_text(folder / "config.json", config.to_json())
    statistics = {
        "features": names,
        "median": [each.median for each in found],
        "scale": [each.scale for each in found],
        "edges": [quantile_edges(column, config.model.encoding.bins) for column in columns],
        "zero_rank": target.zero_score,
        "target_quantiles": target.quantiles(),
        "splits": {},
    }
    write_json(folder / "feature_statistics.json", statistics)
    return folder
