"""Every kind of target and some scalings, from the training set to a stored model that knows up from down."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtri

from vpoc_ml.dataset import scalers, targets
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.bundle import load_model
from vpoc_ml.training.launch.job import train_run

SIGMA = 2e-4


def choose(folder, planted, kind: str, scaler: str) -> None:
    """Give a run folder the target and scaler that the assembly would have given it."""
    statistics = json.loads((folder / "feature_statistics.json").read_text())
    train = planted.split == "train"
    if kind != "rank":
        returns, volatility = ndtri(np.clip(planted.y, 1e-6, 1 - 1e-6)) * SIGMA, np.full(planted.y.size, SIGMA)
        target = targets.fit_target(kind, returns[train], volatility[train])
        values = pl.Series("target", target.apply(returns, volatility), dtype=pl.Float32)
        path = folder / "training_set.parquet"
        pl.read_parquet(path).with_columns(values).write_parquet(path)
        statistics |= {"target": target.to_json(), "zero_rank": target.zero_score}
    if scaler != "none":
        fitted = scalers.fit_scaler(scaler, planted.raw[train].T)
        columns = [fit_robust_scaling(column) for column in fitted.apply(planted.raw[train]).T]
        statistics |= {"scaler": fitted.to_artifact().model_dump(), "median": [column.median for column in columns]}
        statistics["scale"] = [column.scale for column in columns]
    write_json(folder / "feature_statistics.json", statistics)


@pytest.mark.parametrize(
    ("kind", "scaler"),
    [*((kind, "none") for kind in targets.KINDS), ("rank", "quantile"), ("multiclass", "yeo_johnson")],
)
def test_each_kind_learns_the_direction_and_its_stored_model_says_it(planter, make_run, kind, scaler):
    planted = planter(20_000)
    folder = make_run(planted, training__epochs=4)
    choose(folder, planted, kind, scaler)
    result = train_run(folder)
    assert result.best_validation_loss < result.validation_constant
    model = load_model(folder / "best_model.json")
    scores = model.predict(planted.raw)
    centred = scores - model.zero_rank + 0.5
    assert planted.captured(centred) > 0.7
    validation = planted.split == "validation"
    gain = np.abs(planted.y - 0.5)[validation].mean() - np.abs(planted.y - scores)[validation].mean()
    assert gain > 0, "the score is closer to the rank than the constant is"
