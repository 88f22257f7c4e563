"""Planted signals are found, noise is not: quick versions of ``benchmarks/bench_signal.py``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.models.bundle import LoadedModel, load_model
from vpoc_ml.models.forecaster import Forecaster
from vpoc_ml.training.launch.job import train_run

from . import signals
from .signals import STRONG, WEAK, Signal

pytestmark = pytest.mark.slow

QUICK = {"training__epochs": 4, "model__blend": "lightgbm"}
STEPS = {**QUICK, "model__encoding": "piecewise_linear"}


def trained(folder, signal: Signal, **overrides) -> LoadedModel:
    train_run(signals.write(folder, signal, **overrides))
    return load_model(folder / "best_model.json")


def captured(model: LoadedModel, signal: Signal) -> dict[str, float]:
    """Share of the attainable edge on test rows: of the network, of LightGBM on the same rows, of both."""
    rows = signal.raw[signal.split == "test"]
    parts = Forecaster(model.net.body, model.target, model.trees).parts(model.net.guard(torch.from_numpy(rows)))
    net, trees = (signal.captured(part - model.zero_rank) for part in parts)
    return {"net": net, "trees": trees, "blend": signal.captured(model.predict(rows) - model.zero_rank)}


def test_a_smooth_edge_of_three_points_is_found_as_well_as_by_lightgbm(tmp_path):
    signal = signals.make("smooth", STRONG, 700_000)
    assert 0.529 < signal.ceiling < 0.532
    found = captured(trained(tmp_path / "run", signal, **QUICK), signal)
    assert found["net"] >= 0.95, found
    assert found["net"] >= found["trees"] - 0.01, found
    assert found["blend"] >= found["net"] - 0.01, found


def test_an_edge_in_steps_is_found_with_the_encoding_and_by_the_blend(tmp_path):
    signal = signals.make("steps", STRONG, 500_000)
    found = captured(trained(tmp_path / "run", signal, **STEPS), signal)
    assert found["net"] >= 0.90, found
    assert found["blend"] >= found["trees"] - 0.01, found


def test_a_weak_edge_in_steps_belongs_to_trees_and_the_blend_follows_them(tmp_path):
    signal = signals.make("steps", WEAK, 300_000)
    assert 0.509 < signal.ceiling < 0.511
    found = captured(trained(tmp_path / "run", signal, **QUICK), signal)
    assert found["trees"] > found["net"] + 0.05, found
    assert found["blend"] >= found["trees"] - 0.03, found


@pytest.mark.parametrize("model", [{}, {"model__members": 3, "model__blend": "lightgbm"}])
def test_pure_noise_shows_no_skill(tmp_path, model):
    signal = signals.make("steps", 0.0, 60_000, seed=4)
    loaded = trained(tmp_path / "run", signal, training__epochs=3, **model)
    test = signal.split == "test"
    scores = loaded.predict(signal.raw[test])
    ranks = RankTarget.fit(signal.returns[signal.split == "train"]).apply(signal.returns[test])
    assert np.isfinite(scores).all()
    skill = abs(spearmanr(scores, ranks).statistic) if np.ptp(scores) > 0 else 0.0  # the start, a constant, may be best
    assert skill < 3 / np.sqrt(test.sum())
    assert np.abs(ranks - scores).mean() > np.abs(ranks - 0.5).mean() - 1e-4, "no better than the constant"
