"""Batch predictions of the champion for new bars."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from vpoc_ml.errors import ArtifactError
from vpoc_ml.evaluation.forecasts import RankModel
from vpoc_ml.registry.model_key import ModelKey

BAR = timedelta(seconds=60)


@dataclass(frozen=True)
class Scores:
    """Predictions, and the number of bars without one.

    ``frame``: ts, contract, session, known_at (end of the bar, the earliest time at which the prediction can exist),
    prediction (f64, rank units), direction (i8: -1, 0, +1), model_version (i64), and the model's key: instrument,
    horizon (such as 1m), target. ``rows`` is the number of new bars; ``skipped`` of them lack a feature.
    """

    frame: pl.DataFrame
    rows: int
    skipped: int


def score_bars(
    champion: RankModel,
    features: pl.DataFrame,
    *,
    since: datetime | None = None,
    key: ModelKey,
    model_version: int,
) -> Scores:
    """Predict every bar of ``features`` with ``ts`` after ``since`` (all bars if it is None).

    A bar with a non-finite feature of the champion has no prediction. The model would impute the value, and the reader
    of the prediction could not see that.

    Args:
        champion: the model.
        features: ts, contract, session and at least the champion's columns.
        since: only later bars are predicted.
        key: key of the model, for every row.
        model_version: version of the model, for every row.

    Raises:
        ArtifactError: columns of the champion are missing.
    """
    names = list(champion.features)
    absent = [name for name in names if name not in features.columns]
    if absent:
        raise ArtifactError("the features", f"the champion's columns {', '.join(absent)}", "no such columns")
    due = (features if since is None else features.filter(pl.col("ts") > since)).sort("ts", "contract")
    usable = due.filter(pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in names))
    raw = usable.select(names).to_numpy()
    prediction = np.asarray(champion.predict(raw) if len(raw) else [], dtype=np.float64)
    frame = usable.select(
        "ts",
        "contract",
        "session",
        (pl.col("ts") + BAR).alias("known_at"),
        pl.Series("prediction", prediction, dtype=pl.Float64),
        pl.Series("direction", np.sign(prediction - champion.zero_rank).astype(np.int8)),
        pl.lit(model_version, dtype=pl.Int64).alias("model_version"),
        pl.lit(key.instrument).alias("instrument"),
        pl.lit(key.horizon).alias("horizon"),
        pl.lit(key.target).alias("target"),
    )
    return Scores(frame, due.height, due.height - usable.height)
