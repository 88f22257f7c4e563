"""Baselines a model must beat before it is worth anything, on exactly the rows it is judged on.

Each is fitted on training rows (``weight`` = 1) and sees nothing of the test rows but their features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from vpoc_ml.evaluation.forecasts import Floats, Forecast

BASELINES = ("constant", "majority", "last_sign", "ridge")

RIDGE_ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties tried, as shares of the training rows, so that a longer history is not penalised less."""

_GUARD_CLIP = 6.0
_DIRECTION_STEP = 0.25
_IQR_TO_SIGMA = 1.3489795003921634


def constant(train: pl.DataFrame, test: pl.DataFrame, zero_rank: float) -> Forecast:
    """Predict the mean rank of the training rows everywhere (0.5 by construction of mid-ranks)."""
    return Forecast("constant", np.full(test.height, _mean_rank(train)), zero_rank)


def majority(train: pl.DataFrame, test: pl.DataFrame, zero_rank: float) -> Forecast:
    """Say everywhere what most training rows did, up or down; unchanged prices do not vote."""
    direction = float(np.sign(np.sign(train["ret"].to_numpy()).sum()))
    return Forecast("majority", np.full(test.height, zero_rank + _DIRECTION_STEP * direction), zero_rank, True)


def last_sign(train: pl.DataFrame, test: pl.DataFrame, zero_rank: float) -> Forecast:
    """Predict the mean rank that followed a fall, no change or a rise of the last bar in training.

    This is momentum or reversal, whichever the training rows show. Its threshold lies midway between what
    followed a fall and what followed a rise, so that it always follows or fades the sign and never decays
    into one direction for all; ``zero_rank`` is its threshold when a sign is missing from the training rows,
    which then gets their mean.
    """
    overall = _mean_rank(train)
    signs, y = _last_signs(train), train["y"].to_numpy().astype(np.float64)
    seen = [bool((signs == sign).any()) for sign in (-1, 0, 1)]
    followed = [
        float(y[signs == sign].mean()) if there else overall for sign, there in zip((-1, 0, 1), seen, strict=True)
    ]
    threshold = (followed[0] + followed[2]) / 2 if seen[0] and seen[2] else zero_rank
    return Forecast("last_sign", np.asarray(followed)[_last_signs(test) + 1], threshold)


def ridge(
    train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame, features: Sequence[str], zero_rank: float
) -> Forecast:
    """Predict the rank by ridge regression on robustly scaled, asinh-bounded features.

    The scaling is fitted on training rows; the penalty is the one with the smallest squared error on
    the validation rows, the same privilege that early stopping gives the candidate.
    """
    from sklearn.linear_model import Ridge

    scaler = fit_scaler(_matrix(train, features))
    x, y = scaler(_matrix(train, features)), train["y"].to_numpy().astype(np.float64)
    x_validation, y_validation = scaler(_matrix(validation, features)), validation["y"].to_numpy()
    fits = [Ridge(alpha=share * len(y), solver="cholesky").fit(x, y) for share in RIDGE_ALPHAS]
    errors = [float(np.square(fit.predict(x_validation) - y_validation).mean()) for fit in fits]
    best = fits[int(np.argmin(errors))]
    return Forecast("ridge", best.predict(scaler(_matrix(test, features))).astype(np.float64), zero_rank)


def fit_scaler(x: Floats) -> Callable[[Floats], Floats]:
    """Return asinh((x - median) / scale), bounded, with median and IQR of each column of ``x`` (n, f).

    A column whose IQR is zero is scaled by its standard deviation, a constant one by 1; a value that is
    not finite becomes the median.
    """
    finite = np.where(np.isfinite(x), x, np.nan)
    with np.errstate(all="ignore"):
        low, median, high = np.nan_to_num(np.nanquantile(finite, (0.25, 0.5, 0.75), axis=0))
        deviation = np.nan_to_num(np.nanstd(finite, axis=0))
    scale = np.where(high > low, (high - low) / _IQR_TO_SIGMA, np.where(deviation > 0, deviation, 1.0))

    def transform(values: Floats) -> Floats:
        scaled = np.arcsinh((values - median) / scale)
        return np.clip(np.where(np.isfinite(values), scaled, 0.0), -_GUARD_CLIP, _GUARD_CLIP)

    return transform


def _matrix(frame: pl.DataFrame, features: Sequence[str]) -> Floats:
    return frame.select(features).to_numpy().astype(np.float64)


def _mean_rank(train: pl.DataFrame) -> float:
    return float(train["y"].to_numpy().astype(np.float64).mean())


def _last_signs(frame: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Sign of the last bar's return; a bar without one counts as unchanged."""
    signs: np.ndarray[tuple[int], np.dtype[np.int64]] = np.sign(np.nan_to_num(frame["last_ret"].to_numpy())).astype(
        np.int64
    )
    return signs
