"""Predictions of a model for new bars with their intervals; no direction where a row is unlike the training rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts.metrics import Metrics
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.config import ScoringConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.evaluation.conformal import interval_offsets
from vpoc_ml.evaluation.forecasts import RankModel
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.models.distance import distance_limit
from vpoc_ml.registry.model_key import ModelKey

Floats = npt.NDArray[np.float64]

BAR = timedelta(seconds=60)
BLOCK_ROWS = 64
"""Rows that a model predicts at a time. Matrix products of another number of rows may differ in their last bits."""


class ScoringModel(RankModel, Protocol):
    """A trained model that knows how far a row lies from its training rows."""

    def distances(self, features: npt.NDArray[np.floating], /) -> Floats:
        """Return the distance of each row [n]; the argument is that of ``predict``."""


@dataclass(frozen=True)
class ScoringRules:
    """What makes scores of predictions.

    Attributes:
        limit: distance above which a row gets no direction; None: no row abstains.
        offsets: distance of the interval's bounds from the prediction, in rank units; None: no intervals.
        target_quantiles: quantiles 0, ..., 1 of the training returns; None: no intervals in ticks.
        tick_size: of the instrument, in points.
    """

    limit: float | None
    offsets: tuple[float, float] | None
    target_quantiles: tuple[float, ...] | None
    tick_size: float

    @classmethod
    def of(
        cls, model_card: ModelCard, metrics: Metrics | None, settings: ScoringConfig, instrument: Instrument
    ) -> ScoringRules:
        """Return the rules of a model.

        Args:
            model_card: its model card.
            metrics: of the run that it comes from; None: no intervals.
            settings: section ``scoring``.
            instrument: the futures it predicts.
        """
        residuals = metrics.residuals if metrics else None
        return cls(
            limit=distance_limit(model_card.distances, settings.abstain_quantile),
            offsets=interval_offsets(residuals, settings.coverage) if residuals else None,
            target_quantiles=model_card.target_quantiles,
            tick_size=instrument.tick_size,
        )


@dataclass(frozen=True)
class Scores:
    """Predictions (``schemas.PREDICTIONS``), and the number of bars without one.

    ``rows`` is the number of new bars; ``skipped`` of them lack a feature.
    """

    frame: pl.DataFrame
    rows: int
    skipped: int


def score_bars(
    model: ScoringModel,
    features: pl.DataFrame,
    rules: ScoringRules,
    *,
    since: datetime | None = None,
    key: ModelKey,
    model_version: int,
) -> Scores:
    """Predict every bar of ``features`` with ``ts`` after ``since`` (all bars if it is None).

    A bar with a non-finite feature of the model has no prediction. The model would impute the value, and the reader of
    the prediction could not see that. The score of a bar does not depend on the other bars, to the bit.

    Args:
        model: the model.
        features: ts, contract, session, close (points) and at least the model's columns.
        rules: limit of the distance, and intervals.
        since: only later bars are predicted.
        key: key of the model, for every row.
        model_version: version of the model, for every row.

    Raises:
        ArtifactError: columns of the model are missing.
    """
    names = list(model.features)
    absent = [name for name in names if name not in features.columns]
    if absent:
        raise ArtifactError("the features", f"the model's columns {', '.join(absent)}", "no such columns")
    due = (features if since is None else features.filter(pl.col("ts") > since)).sort("ts", "contract")
    usable = due.filter(pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in names))
    scores = score_rows(model, usable.select(names).to_numpy(), usable["close"].to_numpy(), rules)
    frame = usable.select(
        "ts",
        "contract",
        "session",
        (pl.col("ts") + BAR).alias("known_at"),
        *(pl.Series(name, values, nan_to_null=True) for name, values in scores.items()),
        pl.lit(model_version).alias("model_version"),
        pl.lit(key.instrument).alias("instrument"),
        pl.lit(key.horizon).alias("horizon"),
        pl.lit(key.target).alias("target"),
    )
    return Scores(frame.cast(PREDICTIONS), due.height, due.height - usable.height)  # type: ignore[arg-type]


def score_rows(
    model: ScoringModel, raw: npt.NDArray[np.floating], close: Floats, rules: ScoringRules
) -> dict[str, npt.NDArray[np.generic]]:
    """Return the columns of ``schemas.PREDICTIONS`` from ``prediction`` to ``direction``, one entry per row.

    A bound that does not exist is NaN. The change of the price to a bound is close x (exp(r) - 1) / tick size, where r
    is the return that has the rank of the bound among the training returns; a price at or below 0 has none.

    Args:
        model: the model.
        raw: its features [rows, features], finite.
        close: closes of the bars [rows], in points.
        rules: limit of the distance, and intervals.
    """
    prediction, distance = in_blocks(model.predict, raw), in_blocks(model.distances, raw)
    bounds: dict[str, Floats] = {}
    missing = np.full(len(raw), np.nan)
    for name, offset in zip(("low", "high"), rules.offsets or (None, None), strict=True):
        rank = missing if offset is None else np.clip(prediction + offset, 0.0, 1.0)
        change = missing
        if rules.target_quantiles:
            quantiles = np.asarray(rules.target_quantiles)
            change = np.expm1(np.interp(rank, np.linspace(0, 1, quantiles.size), quantiles)) / rules.tick_size
        bounds |= {name: rank, f"{name}_ticks": np.where(close > 0, close * change, np.nan)}
    abstained = np.zeros(len(raw), np.bool_) if rules.limit is None else distance > rules.limit
    direction = np.where(abstained, 0, np.sign(prediction - model.zero_rank)).astype(np.int8)
    own = {"distance": distance, "abstained": abstained, "direction": direction}
    return {"prediction": prediction, **bounds, **own}


def in_blocks(
    function: Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]], raw: npt.NDArray[np.floating]
) -> Floats:
    """Return one value per row of ``raw`` [n, features], computed ``BLOCK_ROWS`` rows at a time, float64 [n].

    The last block is filled up with its last row, so that every call has the same shape.
    """
    if not len(raw):
        return np.empty(0)
    full = np.ascontiguousarray(np.concatenate((raw, np.repeat(raw[-1:], -len(raw) % BLOCK_ROWS, axis=0))))
    blocks = (full[at : at + BLOCK_ROWS] for at in range(0, len(full), BLOCK_ROWS))
    return np.concatenate([np.asarray(function(block), np.float64) for block in blocks])[: len(raw)]
