"""Predictions of a fold by the model of the sessions before it.

They hold labels and prices of the rows, and for each learner its rank and its threshold. ``y`` is the rank of the
return among the training returns of the fold. Stored predictions stay valid while this module's code is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from vpoc_ml.artifacts.fitted_baselines import FittedBaselines
from vpoc_ml.artifacts.schemas import TRACK_KEYS
from vpoc_ml.dataset.quantiles import interpolated_rank
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.forecasts import CANDIDATE, Forecast, RankModel, predict

LEARNERS = (CANDIDATE, *baselines.BASELINES)


def predict_fold(
    rows: pl.DataFrame, model: RankModel, fitted: FittedBaselines, target_quantiles: Sequence[float]
) -> pl.DataFrame:
    """Return the track record of a fold's rows (``TRACK_KEYS`` and, for each learner, rank and threshold).

    Args:
        rows: rows of ``label_rows`` in the fold's test sessions. Rows without a return are left out.
        model: the fold's model.
        fitted: the fold's baselines.
        target_quantiles: quantiles 0, 0.001, ..., 1 of the fold's training returns.
    """
    known = rows.filter(pl.col("ret").is_finite()).sort("ts", "contract")
    y = interpolated_rank(known["ret"].to_numpy(), np.asarray(target_quantiles))
    forecasts = [predict(CANDIDATE, model, known), *baselines.forecasts(fitted, known)]
    columns = [column for each in forecasts for column in forecast_columns(each)]
    return known.with_columns(y=pl.Series(y, dtype=pl.Float64)).select(*TRACK_KEYS).with_columns(columns)


def forecast_columns(forecast: Forecast) -> tuple[pl.Series, pl.Series]:
    """Return a learner's two columns of a track record: its rank and its threshold, Float64."""
    zero = np.broadcast_to(forecast.zero_rank, forecast.rank.shape)
    return pl.Series(forecast.name, forecast.rank), pl.Series(f"{forecast.name}_zero", np.array(zero))
