"""What each kind of target makes of the labels of this run."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.analysis.distribution import describe
from vpoc_ml.analysis.train_validation_view import SPLITS, TrainValidationView
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.labels import known_volatility
from vpoc_ml.dataset.targets import KINDS, fit_target
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.evaluation.forecasts import Floats


def target_distributions(view: TrainValidationView, config: DatasetConfig) -> dict[str, dict[str, Any]]:
    """Describe every kind of target on the labelled rows of both splits, by kind.

    The kind this run trains on is what its training set holds; the others are fitted here on the training rows. Of
    those ``vol_scaled`` takes the volatility from the seen rows, for a training set does not keep the rows between.

    Each has ``predicts``, ``loss``, ``outputs``, ``chosen`` (the kind this run trains on), ``distinct`` values,
    ``commonest`` (share of the training rows on the commonest value), and the
    distribution on ``train`` and ``validation``. A kind whose options do not fit these returns has only
    ``predicts``, ``chosen`` and ``refused``, the reason.
    """
    volatility = _volatility(view, config)
    return {kind: _described(view, kind, volatility, config) for kind in KINDS}


def _described(view: TrainValidationView, kind: str, volatility: Floats, config: DatasetConfig) -> dict[str, Any]:
    head = {"predicts": KINDS[kind].predicts, "chosen": kind == config.target.kind}
    returns, train = view.keys["ret"].to_numpy(), view.mask("train", labelled=True)
    try:
        target = fit_target(kind, returns[train], volatility[train], config)
    except InvalidValueError as error:
        return head | {"refused": str(error)}
    made = view.column("y") if head["chosen"] else target.apply(view.keys["ret"].to_numpy(), volatility)
    values = {split: made[view.mask(split, labelled=True)] for split in SPLITS}
    _, counts = np.unique(values["train"], return_counts=True)
    return head | {
        "loss": target.loss,
        "outputs": target.outputs,
        "distinct": int(counts.size),
        "commonest": float(counts.max() / counts.sum()),
        **{split: describe(found) for split, found in values.items()},
    }


def _volatility(view: TrainValidationView, config: DatasetConfig) -> Floats:
    """Volatility of each row's label as known at the row, from the returns of its contract's seen rows so far."""
    known = view.keys.select(
        pl.col("last_ret")
        .map_batches(
            lambda column: known_volatility(column, config.horizon_minutes, config.target.bars),
            return_dtype=pl.Float64,
        )
        .over("contract")
    )
    return known.to_series().to_numpy()
