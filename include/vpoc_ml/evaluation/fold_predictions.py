"""Predictions of a fold by the model of the sessions before it.

They hold labels and prices of the rows, and the rank and the threshold of each learner and of each part of a mixed
model. ``y`` is the rank of the return among the training returns of the fold. Stored predictions stay valid while this
module's code is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from vpoc_ml.artifacts.fitted_baselines import FittedBaselines
from vpoc_ml.artifacts.schemas import TRACK_KEYS
from vpoc_ml.dataset.quantiles import interpolated_rank
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.forecasts import CANDIDATE, Forecast, MixedModel, forecast_columns

LEARNERS = (CANDIDATE, *baselines.BASELINES, baselines.TREES)
PART = "part_"
"""Prefix of the columns of a model's parts."""


def predict_fold(
    rows: pl.DataFrame, model: MixedModel, fitted: FittedBaselines, target_quantiles: Sequence[float]
) -> pl.DataFrame:
    """Return the track record of a fold's rows (``TRACK_KEYS`` and, for each learner, rank and threshold).

    Args:
        rows: rows of ``label_rows`` in the fold's test sessions. Rows without a return are left out.
        model: the fold's model.
        fitted: the fold's baselines, with trees if the model has none of its own.
        target_quantiles: quantiles 0, 0.001, ..., 1 of the fold's training returns.
    """
    known = rows.filter(pl.col("ret").is_finite()).sort("ts", "contract")
    y = interpolated_rank(known["ret"].to_numpy(), np.asarray(target_quantiles))
    scores = model.parts(known.select(model.features).to_numpy())
    forecasts = [Forecast(CANDIDATE, model.mixed(scores), model.zero_rank), *baselines.forecasts(fitted, known)]
    for (name, zero_rank), score in zip(model.part_zero_ranks.items(), scores, strict=False):  # none of a single part
        forecasts.append(Forecast(f"{PART}{name}", score, zero_rank))
        if name == baselines.TREES:
            forecasts.append(Forecast(baselines.TREES, score, zero_rank))
    columns = [column for each in forecasts for column in forecast_columns(each)]
    return known.with_columns(y=pl.Series(y, dtype=pl.Float64)).select(*TRACK_KEYS).with_columns(columns)
