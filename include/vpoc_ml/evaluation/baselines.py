"""Baselines that a model must beat on the same rows.

Each is fitted on training rows (``weight`` = 1). Of the test rows it uses only the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from vpoc_ml.artifacts.fitted_baselines import FittedBaselines, FittedRidge
from vpoc_ml.dataset.robust_scaling import CLIP, fit_robust_scaling, robust_scale
from vpoc_ml.evaluation.forecasts import Floats, Forecast
from vpoc_ml.models.ridge import fit_ridge
from vpoc_ml.models.trees import Trees, fit_trees, weak_signal

BASELINES = ("constant", "majority", "last_sign", "ridge")
TREES = "lightgbm"
"""Baseline of walk-forward folds: the trees of the model itself, or trees fitted for the comparison."""
DIRECTION_ONLY = frozenset({"majority"})
"""Baselines whose distance from the threshold has no meaning."""
UNRANKED = frozenset({"constant"})
"""Baselines that do not order rows."""

_DIRECTION_STEP = 0.25
_SEED = 0


class Columns(Protocol):
    """Rows whose columns are read by name: a frame, or ``StoredRows`` where a frame would need too much memory."""

    @property
    def height(self) -> int:
        """Number of rows."""

    def __getitem__(self, name: str, /) -> pl.Series:
        """Return a column."""


class StoredRows:
    """Labelled rows of one split of ``training_set.parquet``. A column is read when it is asked for, and not kept."""

    def __init__(self, path: Path, split: str) -> None:
        self._path = path
        keys = pl.read_parquet(path, columns=["split", "weight"])
        self._chosen = keys.select((pl.col("split") == split) & (pl.col("weight") == 1)).to_series()

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self._chosen.sum())

    def __getitem__(self, name: str, /) -> pl.Series:
        """Return a column of the rows."""
        return pl.read_parquet(self._path, columns=[name])[name].filter(self._chosen)


def fit_baselines(
    train: Columns,
    validation: Columns,
    features: Sequence[str],
    zero_rank: float,
    clip: float = CLIP,
    *,
    trees: bool = False,
) -> FittedBaselines:
    """Fit every baseline.

    Args:
        train: labelled training rows: y, ret, last_ret and ``features``.
        validation: labelled rows after them, on which the ridge penalty and the number of trees are chosen.
        features: features of the model that the baselines are compared with.
        zero_rank: mid-rank of a zero return among the training returns.
        clip: bound of the scaled features, ``model.guard_clip``.
        trees: fit LightGBM too.
    """
    mean_rank, y = _mean_rank(train), train["y"].to_numpy().astype(np.float64)
    signs = _last_signs(train)
    fall, unchanged, rise = (y[signs == sign] for sign in (-1, 0, 1))
    followed = [float(ranks.mean()) if ranks.size else mean_rank for ranks in (fall, unchanged, rise)]
    ridge = fit_ridge_baseline(train, validation, features, clip)
    return FittedBaselines(
        zero_rank=zero_rank,
        mean_rank=mean_rank,
        majority=float(np.sign(np.sign(train["ret"].to_numpy()).sum())),
        followed=(followed[0], followed[1], followed[2]),
        threshold=(followed[0] + followed[2]) / 2 if fall.size and rise.size else zero_rank,
        ridge=ridge,
        trees=_fit_trees(train, validation, ridge) if trees else None,
    )


def forecasts(fitted: FittedBaselines, rows: pl.DataFrame) -> list[Forecast]:
    """Return the forecast of every fitted baseline for ``rows`` (last_ret and the features): ``BASELINES``, ``TREES``.

    * ``constant`` predicts the mean rank of the training rows (0.5 by the construction of mid-ranks).
    * ``majority`` predicts the more frequent direction of the training rows; unchanged prices do not count.
    * ``last_sign`` predicts the mean training rank after a fall, no change or a rise of the last bar. This is momentum
      or reversal, depending on the training rows. The threshold lies midway between the means after a fall and after a
      rise, so the baseline always follows or opposes the sign and never predicts one direction for all rows. If a sign
      is missing from the training rows, it gets their mean, and ``zero_rank`` is the threshold.
    * ``ridge`` predicts the rank by ridge regression.
    * ``lightgbm`` predicts the rank by trees, with the settings of a stack's trees.
    """
    zero = fitted.zero_rank
    found = [
        Forecast("constant", np.full(rows.height, fitted.mean_rank), zero, ranked=False),
        Forecast("majority", np.full(rows.height, zero + _DIRECTION_STEP * fitted.majority), zero, True),
        Forecast("last_sign", np.asarray(fitted.followed)[_last_signs(rows) + 1], fitted.threshold),
        Forecast("ridge", predict_ridge(fitted.ridge, rows), zero),
    ]
    if fitted.trees is not None:
        scaled = _guarded(rows, fitted.ridge).astype(np.float32)
        found.append(Forecast(TREES, Trees(fitted.trees).predict(scaled), zero))
    return found


def fit_ridge_baseline(train: Columns, validation: Columns, features: Sequence[str], clip: float = CLIP) -> FittedRidge:
    """Fit the rank ``y`` by ridge regression on features scaled as in the model's input guard.

    The scaling is fitted on training rows and bounded by ``clip``. The penalty with the smallest squared error on the
    validation rows is chosen. Early stopping gives the candidate the same advantage.
    """
    x, fits = np.empty((train.height, len(features))), []
    for index, name in enumerate(features):
        column = train[name].to_numpy()
        fits.append(fit_robust_scaling(column))
        x[:, index] = fits[-1].apply(column.astype(np.float64), clip)
    median, scale = tuple(each.median for each in fits), tuple(each.scale for each in fits)
    unfitted = FittedRidge(
        features=tuple(features), median=median, scale=scale, clip=clip, coefficients=(), intercept=0.0
    )
    held = _guarded(validation, unfitted)
    fitted = fit_ridge((x, train["y"].to_numpy()), (held, validation["y"].to_numpy()), overwrite=True)
    values = tuple(float(each) for each in fitted.values)
    return unfitted.model_copy(update={"coefficients": values[:-1], "intercept": values[-1]})


def predict_ridge(fitted: FittedRidge, rows: pl.DataFrame) -> Floats:
    """Return the predicted rank of each row, (n,)."""
    x = _guarded(rows, fitted)
    return np.asarray(x @ np.asarray(fitted.coefficients) + fitted.intercept, dtype=np.float64)


def _fit_trees(train: Columns, validation: Columns, scaling: FittedRidge) -> str:
    """Fit the rank by trees with the settings of a stack's trees; the validation rows choose their number."""
    rows, held = (
        (_guarded(part, scaling).astype(np.float32), part["y"].to_numpy().astype(np.float64))
        for part in (train, validation)
    )
    return fit_trees(rows, held, _SEED, weak_signal(train.height)).text


def _guarded(rows: Columns, scaling: FittedRidge) -> Floats:
    """Return the features as the ridge regression scales them, (rows, features), column by column to save memory."""
    x = np.empty((rows.height, len(scaling.features)))
    for index, name in enumerate(scaling.features):
        values = rows[name].to_numpy().astype(np.float64)
        x[:, index] = robust_scale(values, scaling.median[index], scaling.scale[index], scaling.clip)
    return x


def _mean_rank(train: Columns) -> float:
    return float(train["y"].to_numpy().astype(np.float64).mean())


def _last_signs(frame: Columns) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the sign of the last bar's return. A bar without a return counts as unchanged."""
    signs: np.ndarray[tuple[int], np.dtype[np.int64]] = np.sign(np.nan_to_num(frame["last_ret"].to_numpy())).astype(
        np.int64
    )
    return signs
