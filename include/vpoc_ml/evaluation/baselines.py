"""Baselines that a model must beat on the same rows.

Each is fitted on training rows (``weight`` = 1). Of the test rows it uses only the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from vpoc_ml.dataset.robust_scaling import CLIP, fit_robust_scaling
from vpoc_ml.evaluation.forecasts import Floats, Forecast
from vpoc_ml.models.ridge import fit_ridge

BASELINES = ("constant", "majority", "last_sign", "ridge")

_DIRECTION_STEP = 0.25


def constant(train: pl.DataFrame, test: pl.DataFrame, zero_rank: float) -> Forecast:
    """Predict the mean rank of the training rows for every row (0.5 by the construction of mid-ranks)."""
    return Forecast("constant", np.full(test.height, _mean_rank(train)), zero_rank)


def majority(train: pl.DataFrame, test: pl.DataFrame, zero_rank: float) -> Forecast:
    """Predict the more frequent direction of the training rows for every row; unchanged prices do not count."""
    direction = float(np.sign(np.sign(train["ret"].to_numpy()).sum()))
    return Forecast("majority", np.full(test.height, zero_rank + _DIRECTION_STEP * direction), zero_rank, True)


def last_sign(train: pl.DataFrame, test: pl.DataFrame, zero_rank: float) -> Forecast:
    """Predict the mean training rank after a fall, no change or a rise of the last bar.

    This is momentum or reversal, depending on the training rows. The threshold lies midway between the means after a
    fall and after a rise, so the baseline always follows or opposes the sign and never predicts one direction for all
    rows. If a sign is missing from the training rows, it gets their mean, and ``zero_rank`` is the threshold.
    """
    overall = _mean_rank(train)
    signs, y = _last_signs(train), train["y"].to_numpy().astype(np.float64)
    fall, unchanged, rise = (y[signs == sign] for sign in (-1, 0, 1))
    followed = [float(ranks.mean()) if ranks.size else overall for ranks in (fall, unchanged, rise)]
    threshold = (followed[0] + followed[2]) / 2 if fall.size and rise.size else zero_rank
    return Forecast("last_sign", np.asarray(followed)[_last_signs(test) + 1], threshold)


def ridge(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    test: pl.DataFrame,
    features: Sequence[str],
    zero_rank: float,
    clip: float = CLIP,
) -> Forecast:
    """Predict the rank by ridge regression on features scaled as in the model's input guard.

    The scaling is fitted on training rows and bounded by ``clip``. The penalty with the smallest squared error on the
    validation rows is chosen. Early stopping gives the candidate the same advantage.
    """
    scalings = {name: fit_robust_scaling(train[name].to_numpy()) for name in features}

    def scaled(rows: pl.DataFrame) -> Floats:
        wide = {name: rows[name].to_numpy().astype(np.float64) for name in features}
        return np.column_stack([scaling.apply(wide[name], clip) for name, scaling in scalings.items()])

    fitted = fit_ridge((scaled(train), train["y"].to_numpy()), (scaled(validation), validation["y"].to_numpy()))
    return Forecast("ridge", fitted.predict(scaled(test)), zero_rank)


def _mean_rank(train: pl.DataFrame) -> float:
    return float(train["y"].to_numpy().astype(np.float64).mean())


def _last_signs(frame: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the sign of the last bar's return. A bar without a return counts as unchanged."""
    signs: np.ndarray[tuple[int], np.dtype[np.int64]] = np.sign(np.nan_to_num(frame["last_ret"].to_numpy())).astype(
        np.int64
    )
    return signs
