"""Distribution of each kind of target on the labels of a run."""

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


def target_distributions(view: TrainValidationView, config: DatasetConfig) -> dict[str, dict[str, Any]]:
    """Describe every kind of target on the labelled rows of both splits, by kind.

    The training set holds the target of this run. The other kinds are fitted here on the training rows. Their
    ``vol_scaled`` computes the volatility from the rows of the view, because a training set lacks the rows between.

    Each kind has ``predicts``, ``loss``, ``outputs``, ``chosen`` (this run trains on it), the number of ``distinct``
    values, ``commonest`` (share of training rows with the most frequent value), and the distribution on ``train`` and
    ``validation``. A kind whose options do not suit these returns has only ``predicts``, ``chosen`` and ``refused``,
    the reason.
    """
    # the volatility of each row's label that is known at the row, from the earlier returns of its contract
    known = pl.col("last_ret").map_batches(
        lambda column: known_volatility(column, config.horizon.minutes, config.target.bars), return_dtype=pl.Float64
    )
    volatility = view.keys.select(known.over("contract")).to_series().to_numpy()
    returns, train = view.keys["ret"].to_numpy(), view.mask("train", labelled=True)
    described: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        chosen = kind == config.target.kind
        described[kind] = {"predicts": KINDS[kind].predicts, "chosen": chosen}
        try:
            target = fit_target(kind, returns[train], volatility[train], config)
        except InvalidValueError as error:
            described[kind]["refused"] = str(error)
            continue
        made = view.column("y") if chosen else target.apply(returns, volatility)
        values = {split: made[view.mask(split, labelled=True)] for split in SPLITS}
        _, counts = np.unique(values["train"], return_counts=True)
        described[kind] |= {
            "loss": target.loss,
            "outputs": target.outputs,
            "distinct": int(counts.size),
            "commonest": float(counts.max() / counts.sum()),
            **{split: describe(found) for split, found in values.items()},
        }
    return described
