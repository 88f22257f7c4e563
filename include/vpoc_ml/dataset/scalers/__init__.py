"""Scalers of the features. They are fitted on training rows, stored as JSON, and equal in training and scoring.

A scaler runs before the model's guard. The guard is fitted on the scaled values. Every kind keeps these rules: a
non-finite value becomes NaN, which the guard replaces; a finite value stays finite; the order of the values is kept; a
constant column stays constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpoc_ml.artifacts.feature_statistics import FittedScaler
from vpoc_ml.dataset.scalers.base import ColumnScaler, Floats
from vpoc_ml.dataset.scalers.linear import Mad, Robust, RobustScaler, Winsor
from vpoc_ml.dataset.scalers.normal import BoxCox, Quantile, YeoJohnson
from vpoc_ml.errors import InputError, InvalidValueError

LARGEST = 1e30
KINDS: dict[str, type[ColumnScaler]] = {
    kind.kind: kind for kind in (Robust, Mad, RobustScaler, Winsor, Quantile, YeoJohnson, BoxCox)
}


@dataclass(frozen=True)
class Scaler:
    """One ``ColumnScaler`` per feature, in model order."""

    kind: str
    columns: tuple[ColumnScaler, ...]

    def apply(self, raw: npt.NDArray[np.floating]) -> Floats:
        """Return scaled features [n, f], float64; NaN exactly where ``raw`` is not finite.

        Raises:
            InputError: another number of columns.
        """
        if raw.ndim != 2 or raw.shape[1] != len(self.columns):
            raise InputError(f"Expected {len(self.columns)} feature columns; was an array of shape {raw.shape}.")
        scaled = np.empty(raw.shape, dtype=np.float64)
        for index, column in enumerate(self.columns):
            scaled[:, index] = apply_column(column, raw[:, index])
        return scaled

    def to_artifact(self) -> FittedScaler:
        """Return the fitted parameters of all columns."""
        return FittedScaler(kind=self.kind, columns=tuple(column.to_json() for column in self.columns))


def apply_column(column: ColumnScaler, raw: npt.NDArray[np.floating]) -> Floats:
    """Return one feature [n] scaled, float64, within +- 1e30; NaN where ``raw`` is not finite."""
    values = raw.astype(np.float64)
    finite = np.isfinite(values)
    with np.errstate(over="ignore", divide="ignore"):
        scaled = column.apply(np.where(finite, values, 0.0))
    return np.where(finite, np.clip(scaled, -LARGEST, LARGEST), np.nan)


def fit_scaler(kind: str, columns: Iterable[npt.NDArray[np.floating]]) -> Scaler:
    """Fit a scaler of ``kind`` on the training rows' columns, each [n]; for a matrix pass its transpose.

    A column without a finite value is fitted as one of zeros.

    Raises:
        InvalidValueError: the kind is unknown.
    """
    scaling, fitted = _class(kind), []
    for column in columns:
        values = column.astype(np.float64)
        finite = values[np.isfinite(values)]
        fitted.append(scaling.fit(finite if finite.size else np.zeros(1)))
    return Scaler(kind, tuple(fitted))


def scaler_from_json(stored: FittedScaler) -> Scaler:
    """Return the scaler with these fitted parameters.

    Raises:
        InvalidValueError: the kind is unknown.
    """
    scaling = _class(stored.kind)
    return Scaler(stored.kind, tuple(scaling.from_json(column) for column in stored.columns))


def _class(kind: str) -> type[ColumnScaler]:
    if kind not in KINDS:
        raise InvalidValueError("dataset.scaler", kind, f"one of {', '.join(KINDS)}")
    return KINDS[kind]


__all__ = ["KINDS", "ColumnScaler", "Scaler", "apply_column", "fit_scaler", "scaler_from_json"]
