"""Distances between a block of sessions and training rows, from counts in bins. All are 0 for equal shares.

PSI and KS need no rows, only counts, so the rows are read once and need no memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vpoc_ml.artifacts.monitoring_reference import Moments

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
SMOOTHING = 0.5
"""Added to every count, so that the PSI of an empty bin is finite."""

PSI, KS, MISSING, MEAN, SCALE, UP = "psi", "ks", "missing", "mean", "scale", "up"


def bin_counts(values: Floats, edges: Sequence[float]) -> Counts:
    """Return the finite values in each bin [len(edges) + 1]: below, the bins with their upper edge, above.

    The smallest edge belongs to the second bin. A repeated edge gives an empty bin.
    """
    finite = values[np.isfinite(values)]
    found = np.searchsorted(np.asarray(edges)[1:], finite, side="left") + 1
    found[finite < edges[0]] = 0
    return np.bincount(found, minlength=len(edges) + 1).astype(np.int64)


def psi(block: Counts, rest: Counts) -> float:
    """Return the population stability index, sum of (q - p) ln(q / p) over the bins (Siddiqi 2006); 0 without values.

    Args:
        block: values in each bin of the block.
        rest: the same of the rows it is compared with.
    """
    if not block.sum() or not rest.sum():
        return 0.0
    q, p = ((each + SMOOTHING) / (each.sum() + SMOOTHING * len(each)) for each in (block, rest))
    return float(((q - p) * np.log(q / p)).sum())


def ks(block: Counts, rest: Counts) -> float:
    """Return the statistic of Kolmogorov and Smirnov at the edges of the bins; 0 without values.

    With an edge below all values and one at each it is the exact two-sample statistic; with fewer edges at most that.
    """
    if not block.sum() or not rest.sum():
        return 0.0
    return float(np.abs(block.cumsum() / block.sum() - rest.cumsum() / rest.sum()).max())


def missing_excess(missing: int, rows: int, rest_missing: int, rest_rows: int) -> float:
    """Return by how much the share of missing values exceeds that of the rest; 0 if it does not."""
    return max(missing / max(rows, 1) - rest_missing / max(rest_rows, 1), 0.0)


def moments(values: Floats) -> Moments:
    """Return the moments of the finite values; zeros without any."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Moments(mean=0.0, std=0.0, up=0.0)
    return Moments(mean=float(finite.mean()), std=float(finite.std()), up=float((finite > 0).mean()))


def moment_distances(block: Moments, rest: Moments) -> dict[str, float]:
    """Return the distances of a label: mean in standard deviations, log ratio of the scales, share above zero."""
    known = block.std > 0 and rest.std > 0
    return {
        MEAN: abs(block.mean - rest.mean) / rest.std if rest.std > 0 else 0.0,
        SCALE: abs(math.log(block.std / rest.std)) if known else 0.0,
        UP: abs(block.up - rest.up),
    }
