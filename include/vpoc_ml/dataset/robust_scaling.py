"""Statistics of one column of training rows: what the guard scales with, where a value stands in the column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

# Spread between two percentiles of a standard normal: dividing by it makes every rung estimate one sigma.
SPREADS = (
    ("25-75", 25.0, 75.0, 1.3489795),
    ("10-90", 10.0, 90.0, 2.5631031),
    ("1-99", 1.0, 99.0, 4.6526957),
    ("0.1-99.9", 0.1, 99.9, 6.1804646),
)


@dataclass(frozen=True)
class RobustScaling:
    """Centre and scale of one feature, the percentiles the scale came from, and its non-finite share."""

    median: float
    scale: float
    source: str
    nonfinite_share: float


def fit_robust_scaling(values: Floats) -> RobustScaling:
    """Return robust centre and scale of one column.

    The scale is the first spread that is positive and finite of the percentiles 25-75, 10-90, 1-99 and
    0.1-99.9, in units of a normal's sigma; else 1 (source ``one``). A ladder instead of "+ epsilon": a
    mostly-zero column divided by an epsilon is how losses of 1e28 arise.
    """
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    share = 1.0 - finite.size / max(wide.size, 1)
    if finite.size == 0:
        return RobustScaling(0.0, 1.0, "one", share)
    edges = np.percentile(finite, [50.0, *(edge for rung in SPREADS for edge in rung[1:3])])
    for index, (source, _, _, sigmas) in enumerate(SPREADS):
        scale = float((edges[2 + 2 * index] - edges[1 + 2 * index]) / sigmas)
        if 0 < scale < np.inf:
            return RobustScaling(float(edges[0]), scale, source, share)
    return RobustScaling(float(edges[0]), 1.0, "one", share)


def quantile_edges(values: Floats, bins: int) -> list[float]:
    """Return ``bins + 1`` ascending edges: the least finite value, the quantiles between, the greatest.

    Without a finite value all edges are 0.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        return [0.0] * (bins + 1)
    edges: list[float] = np.quantile(finite, np.linspace(0, 1, bins + 1)).tolist()
    return edges


def even_quantiles(values: Floats) -> npt.NDArray[np.float64]:
    """Return the 1001 quantiles 0, 0.001, ..., 1 of finite ``values`` [n], for ``interpolated_rank``."""
    quantiles: npt.NDArray[np.float64] = np.quantile(values, np.linspace(0, 1, 1001))
    return quantiles


def interpolated_rank(values: Floats, quantiles: Floats) -> npt.NDArray[np.float64]:
    """Return where ``values`` [n] stand in [0, 1] among evenly spaced ``quantiles`` [k], ascending.

    Repeated quantiles, a value that many rows share, get the middle of their ranks: the mean of an
    interpolation from below and one from above.
    """
    ranks = np.linspace(0, 1, quantiles.size)
    from_below = np.interp(values, quantiles, ranks)
    from_above = -np.interp(-values, -quantiles[::-1], -ranks[::-1])
    middle: npt.NDArray[np.float64] = 0.5 * (from_below + from_above)
    return middle


def nonfinite_row_share(matrix: Floats) -> float:
    """Return the share of rows of ``[rows, features]`` with any NaN or infinity.

    Counted per row, because the share of bad batches is only 1 - (1 - share)^batch and says nothing.
    """
    return float(1.0 - np.isfinite(matrix).all(axis=1).mean()) if len(matrix) else 0.0
