"""How far a row lies from the training rows of a model.

The distance is the mean square of the guarded features: of asinh((x - median) / scale), clipped. The guard bounds what
a single feature adds, so a row is far only if many features are unusual at the same time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpoc_ml.artifacts.model_card import TrainingDistances

Floats = npt.NDArray[np.float64]

LEVELS = (0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)
"""Quantiles of the training rows' distances that a model keeps."""


def row_distances(guarded: npt.NDArray[np.floating]) -> Floats:
    """Return the distance of each row [rows] from its guarded features [rows, features].

    The features are added one by one, so that the distance of a row does not depend on other rows.
    """
    total = np.zeros(len(guarded))
    for column in guarded.T:
        total += np.square(column.astype(np.float64))
    return np.asarray(total / guarded.shape[1], np.float64)


def training_distances(guarded: npt.NDArray[np.floating]) -> TrainingDistances:
    """Return the quantiles of the distances of the training rows, whose guarded features are [rows, features]."""
    found = np.quantile(row_distances(guarded), LEVELS)
    return TrainingDistances(levels=LEVELS, distances=tuple(map(float, found)))


def distance_limit(distances: TrainingDistances | None, quantile: float) -> float | None:
    """Return the distance that a share ``quantile`` of the training rows did not exceed.

    It is interpolated between two levels; above the highest one it is that of the highest.

    Args:
        distances: of the model; None in models of older versions.
        quantile: ``scoring.abstain_quantile``.

    Returns:
        The limit; None with the quantile 1, and for a model without distances.
    """
    if distances is None or quantile >= 1:
        return None
    return float(np.interp(quantile, distances.levels, distances.distances))
