"""Quantiles of a column, and ranks interpolated between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def quantile_edges(values: Floats, bins: int) -> list[float]:
    """Return ``bins + 1`` ascending edges: the smallest finite value, the quantiles between, the largest.

    All edges are 0 if no value is finite.
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
    """Return the ranks of ``values`` [n] in [0, 1] among evenly spaced, ascending ``quantiles`` [k].

    Many equal training values give equal quantiles. A value on them gets the middle of their ranks: the mean of an
    interpolation from below and one from above.
    """
    ranks = np.linspace(0, 1, quantiles.size)
    from_below = np.interp(values, quantiles, ranks)
    from_above = -np.interp(-values, -quantiles[::-1], -ranks[::-1])
    middle: npt.NDArray[np.float64] = 0.5 * (from_below + from_above)
    return middle
