"""The input guard, the ridge baseline, the scaler ``robust`` and the analysis scale a feature alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from vpoc_ml.analysis.train_validation_view import TrainValidationView
from vpoc_ml.artifacts.feature_statistics import FeatureStatistics
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.scalers import fit_scaler
from vpoc_ml.evaluation import baselines
from vpoc_ml.models.guard import Guard

ROWS = 5_000


def zero_inflated(nonzero_share: float) -> np.ndarray:
    """A column of zeros with few positive values, as counts of rare events have."""
    rng = np.random.default_rng(1)
    return np.where(rng.random(ROWS) < nonzero_share, rng.exponential(50.0, ROWS), 0.0)


@pytest.mark.parametrize(
    ("nonzero_share", "source"), [(0.6, "25-75"), (0.04, "1-99"), (0.003, "0.1-99.9"), (0.0002, "one")]
)
def test_all_users_scale_a_zero_inflated_column_alike(nonzero_share, source):
    column = zero_inflated(nonzero_share)
    scaling = fit_robust_scaling(column)
    assert scaling.source == source
    statistics = FeatureStatistics(
        features=("rare",), median=(scaling.median,), scale=(scaling.scale,), zero_rank=0.5, target_quantiles=(0.0,)
    )
    in_network = Guard(statistics.median, statistics.scale, 6.0)(torch.tensor(column[:, None]))[:, 0].double().numpy()
    assert np.ptp(in_network) > 1

    in_scaler = fit_scaler("robust", [column]).apply(column[:, None])[:, 0]
    np.testing.assert_allclose(in_scaler, in_network, rtol=1e-6)
    in_analysis = TrainValidationView(Path("unused"), pl.DataFrame(), statistics).guarded("rare", column, 6.0)
    np.testing.assert_allclose(in_analysis, in_network, rtol=1e-6)

    # the ridge predicts a line of the network's input exactly only if its own input is the same up to a line
    part = pl.DataFrame({"rare": column, "y": 0.5 + 0.01 * in_network})
    predicted = baselines.predict_ridge(baselines.fit_ridge_baseline(part, part, ["rare"]), part)
    slope, offset = np.polyfit(in_network, predicted, 1)
    np.testing.assert_allclose(predicted, offset + slope * in_network, atol=1e-9)
    assert slope == pytest.approx(0.01, rel=0.05)
