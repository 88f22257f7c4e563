"""The distribution of every feature on the training and the validation rows, before and after scaling."""

from __future__ import annotations

import numpy as np
import polars as pl

from vpoc_ml.analysis.distribution import histogram
from vpoc_ml.analysis.train_validation_view import SPLITS, TrainValidationView
from vpoc_ml.artifacts.schemas import DISTRIBUTIONS
from vpoc_ml.evaluation.forecasts import Floats

ROWS = 20_000
"""Rows of the sample, both splits together: the share of a bin is then known to about 0.4 %."""
_ENDS = (0.001, 0.999)
STAGES = ("raw", "scaled")
"""Values as in the training set, and as the network receives them: after scaler and guard."""


def split_distributions(view: TrainValidationView, clip: float, rows: int = ROWS) -> pl.DataFrame:
    """Return one row per feature, stage and split (``schemas.DISTRIBUTIONS``).

    The bins span p0.1 to p99.9 of the training rows. Values beyond count in the outer bins. A feature without a finite
    training value has no bins.

    Args:
        view: The training set of a run.
        clip: Bound of the guard, ``model.guard_clip``.
        rows: At most about so many evenly spaced labelled rows are read.
    """
    step = max(view.keys.height // rows, 1)
    wanted = pl.scan_parquet(view.path).head(view.keys.height).select("split", "weight", *view.features)
    sample = wanted.gather_every(step).filter(pl.col("weight") == 1).collect(engine="streaming")
    parts = {split: sample.filter(pl.col("split") == split) for split in SPLITS}
    found = []
    for name in view.features:
        raw = {split: part[name].to_numpy().astype(np.float64) for split, part in parts.items()}
        scaled = {split: view.guarded(name, values, clip) for split, values in raw.items()}
        for stage, values in zip(STAGES, (raw, scaled), strict=True):
            train = values["train"][np.isfinite(values["train"])]
            ends = tuple(np.quantile(train, _ENDS).tolist()) if train.size else None
            found += [(name, stage, split, *_described(each, ends)) for split, each in values.items()]
    return pl.DataFrame(found, schema=DISTRIBUTIONS, orient="row")


def _described(values: Floats, ends: tuple[float, ...] | None) -> tuple[object, ...]:
    """Return rows, missing, low, high, counts, mean and standard deviation of ``values`` (n,)."""
    finite = values[np.isfinite(values)]
    missing = int(values.size - finite.size)
    if ends is None or not finite.size:
        return values.size, missing, None, None, None, None, None
    bins = histogram(finite, ends[0], ends[-1])
    return values.size, missing, bins["low"], bins["high"], bins["counts"], float(finite.mean()), float(finite.std())
