"""Effect of each kind of scaler on the shape of the features."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpoc_ml.analysis.train_validation_view import TrainValidationView
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.scalers import KINDS, apply_column, fit_scaler
from vpoc_ml.evaluation.forecasts import Floats

ROWS = 6_000
FAR = 5.0


def scaler_effects(view: TrainValidationView, config: DatasetConfig, rows: int = ROWS) -> dict[str, dict[str, Any]]:
    """Fit every kind of scaler on at most ``rows`` evenly spaced training rows of each feature; return its effect.

    By kind, with ``none`` for the raw values: ``formula``, ``chosen`` (this run uses the kind), and ``features``. Each
    feature has ``skewness`` and excess ``kurtosis`` of the scaled values, and ``far``, the share of values beyond 5 of
    their robust scales, which does not depend on the unit of a scaler.
    """
    train = np.flatnonzero(view.mask("train"))
    chosen = train[:: -(-train.size // rows)]
    kinds = ("none", *KINDS)
    found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for name in view.features:
        column = view.column(name)[chosen]
        for kind in kinds:
            scaled = column if kind == "none" else apply_column(fit_scaler(kind, [column]).columns[0], column)
            found[kind][name] = _shape(scaled)
    return {
        kind: {
            "formula": KINDS[kind].formula if kind in KINDS else "unchanged",
            "chosen": kind == config.scaler,
            "features": features,
        }
        for kind, features in found.items()
    }


def _shape(values: Floats) -> dict[str, float]:
    """Return skewness, excess kurtosis and far share of the finite values; all 0 for a constant or without any."""
    finite = values[np.isfinite(values)]
    sd = float(finite.std()) if finite.size else 0.0
    if not sd > 0:
        return {"skewness": 0.0, "kurtosis": 0.0, "far": 0.0}
    standard = (finite - finite.mean()) / sd
    square, known = standard * standard, fit_robust_scaling(finite)
    return {
        "skewness": float((square * standard).mean()),
        "kurtosis": float((square * square).mean() - 3.0),
        "far": float((np.abs(finite - known.median) > FAR * known.scale).mean()),
    }
