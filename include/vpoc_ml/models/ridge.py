"""Ridge regression of ranks on guarded features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

BLOCK_ROWS = 2**20
"""Rows that are copied as float64 at a time, about ten contracts. Another number changes last bits of a result."""


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

    The coefficients are those of ``sklearn.linear_model.Ridge`` with the solver ``cholesky``, to the bit up to
    ``BLOCK_ROWS`` rows. The products of the features are computed once for all penalties.
    """
    inputs, ranks = train
    known, width = np.isfinite(ranks), inputs.shape[1]
    y = ranks[known].astype(np.float64, copy=False)
    mean, mean_y, done = np.zeros(width), y.mean(), 0
    products, projections = np.zeros((width, width)), np.zeros(width)
    for x in _blocks(inputs, known, BLOCK_ROWS, overwrite=overwrite):
        mean += x.sum(axis=0)
        del x  # before the next one is made
    mean /= len(y)
    for x in _blocks(inputs, known, BLOCK_ROWS, overwrite=overwrite):
        x -= mean
        products += x.T @ x
        projections += x.T @ (y[done : done + len(x)] - mean_y)
        done += len(x)
        del x
    ridges = []
    for penalty in penalties if validation is not None else penalties[:1]:
        penalised = products + np.diag(np.full(width, penalty * len(y)))
        coefficients = linalg.solve(penalised, projections, assume_a="pos")
        ridges.append(Ridge(np.append(coefficients, mean_y - mean @ coefficients), penalty))
    if validation is None:
        return ridges[0]
    (held,) = _blocks(validation[0], np.isfinite(validation[1]), len(validation[1]), overwrite=True)
    held_y = validation[1][np.isfinite(validation[1])]
    errors = [float(np.square(ridge.predict(held) - held_y).mean()) for ridge in ridges]
    return ridges[int(np.argmin(errors))]


def _blocks(inputs: Inputs, known: npt.NDArray[np.bool_], rows: int, *, overwrite: bool) -> Iterator[Floats]:
    """Yield the ``known`` rows as float64; with ``overwrite`` they may be those given, else they are copies."""
    shared = overwrite and bool(known.all())
    for start in range(0, len(inputs), rows):
        part = inputs[start : start + rows]
        yield (part if shared else part[known[start : start + rows]]).astype(np.float64, copy=False)
