"""Ridge regression of ranks on guarded features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

Floats = npt.NDArray[np.float64]
Inputs = npt.NDArray[np.floating]

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Tested penalties, as shares of the number of training rows.

The best share is about overlap x features / (rows x explained share of the variance): 0.03 for a million rows, one
minute and a rank IC of 0.04, and 75 for twenty sessions and labels of an hour.
"""

BLOCK_ROWS = 65_536
"""Rows copied at a time."""


@dataclass(frozen=True)
class Ridge:
    """A linear function of guarded features that predicts the rank of the return.

    ``values`` holds the coefficients and then the intercept, [features + 1]. ``penalty`` is the chosen one, a share of
    the training rows; None for a stored model.
    """

    values: Floats
    penalty: float | None = None

    def predict(self, guarded: Inputs) -> Floats:
        """Return the predicted rank [rows] for guarded features [rows, features]."""
        return np.asarray(guarded.astype(np.float64, copy=False) @ self.values[:-1] + self.values[-1], dtype=np.float64)


def fit_ridge(
    train: tuple[Inputs, Floats],
    validation: tuple[Inputs, Floats] | None,
    penalties: Sequence[float] = ALPHAS,
    *,
    overwrite: bool = False,
) -> Ridge:
    """Fit the training rows with the penalty that has the smallest squared error on the validation rows.

    Args:
        train: guarded features [rows, features] and rank targets [rows]; rows with a NaN target do not count.
        validation: the same of the validation rows; None: the first penalty is taken.
        penalties: tested penalties, as shares of the number of training rows.
        overwrite: whether the training inputs may be changed, which saves a copy of them.

    The coefficients are those of ``sklearn.linear_model.Ridge`` with the solver ``cholesky``, to the bit. The products
    of the features are computed once for all penalties.
    """
    x, y = _labelled(train, copy=not overwrite)
    mean, mean_y, width = x.mean(axis=0), y.mean(), x.shape[1]
    x -= mean
    products, projections = x.T @ x, x.T @ (y - mean_y)
    del x  # the largest array of a training
    ridges = []
    for penalty in penalties if validation is not None else penalties[:1]:
        penalised = products + np.diag(np.full(width, penalty * len(y)))
        coefficients = linalg.solve(penalised, projections, assume_a="pos")
        ridges.append(Ridge(np.append(coefficients, mean_y - mean @ coefficients), penalty))
    if validation is None:
        return ridges[0]
    x_validation, y_validation = _labelled(validation, copy=False)
    errors = [float(np.square(ridge.predict(x_validation) - y_validation).mean()) for ridge in ridges]
    return ridges[int(np.argmin(errors))]


def _labelled(rows: tuple[Inputs, Floats], *, copy: bool) -> tuple[Floats, Floats]:
    """Return the rows with a target as float64; without ``copy`` the inputs may be those given."""
    inputs, ranks = rows
    known = np.isfinite(ranks)
    y = ranks[known].astype(np.float64, copy=False)
    if not copy and known.all():
        return inputs.astype(np.float64, copy=False), y
    x, done = np.empty((y.size, inputs.shape[1])), 0
    for start in range(0, len(inputs), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        part = inputs[block][known[block]]
        x[done : done + len(part)] = part
        done += len(part)
    return x, y
