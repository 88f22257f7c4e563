"""The robust scaling of a feature: median, percentile spread, asinh and clip.

The model's input guard, the scaler ``robust``, the ridge baseline and the feature analysis all use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

CLIP = 6.0
"""Default bound of the scaled values."""

# Name, lower and upper percentile, distance of the two in standard deviations of a normal distribution.
# Each spread divided by that distance estimates the same standard deviation.
SPREADS = (
    ("25-75", 25.0, 75.0, 1.3489795),
    ("10-90", 10.0, 90.0, 2.5631031),
    ("1-99", 1.0, 99.0, 4.6526957),
    ("0.1-99.9", 0.1, 99.9, 6.1804646),
)


@dataclass(frozen=True)
class RobustScaling:
    """Centre and scale of one feature.

    Attributes:
        median: median of the finite values.
        scale: positive, in the unit of the feature.
        source: percentiles that the scale was computed from, or ``one``.
        nonfinite_share: share of NaN and infinite values.
    """

    median: float
    scale: float
    source: str
    nonfinite_share: float

    def apply(self, values: Floats, clip: float = CLIP) -> npt.NDArray[np.float64]:
        """Return ``robust_scale`` of values [n]."""
        return robust_scale(values, self.median, self.scale, clip)


def fit_robust_scaling(values: Floats) -> RobustScaling:
    """Fit the robust scaling of one column [n]; only finite values count.

    The scale is the first positive and finite percentile spread out of 25-75, 10-90, 1-99 and 0.1-99.9, in standard
    deviations of a normal distribution. If there is none, the scale is 1 (source ``one``). The wider spreads handle
    columns that are mostly zero. Adding a small epsilon to a zero spread instead would produce losses around 1e28.
    """
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    share = 1.0 - finite.size / max(wide.size, 1)
    if finite.size == 0:
        return RobustScaling(0.0, 1.0, "one", share)
    edges = np.percentile(finite, [50.0, *(edge for spread in SPREADS for edge in spread[1:3])])
    for index, (source, _, _, sigmas) in enumerate(SPREADS):
        scale = float((edges[2 + 2 * index] - edges[1 + 2 * index]) / sigmas)
        if 0 < scale < np.inf:
            return RobustScaling(float(edges[0]), scale, source, share)
    return RobustScaling(float(edges[0]), 1.0, "one", share)


def robust_scale(
    values: Floats, median: float | Floats, scale: float | Floats, clip: float = CLIP
) -> npt.NDArray[np.float64]:
    """Return asinh((x - median) / scale), clipped to [-clip, clip], float64; 0 where x is not finite.

    ``values`` is one column [n], or [n, features] with one median and scale per feature. ``models.guard.Guard`` is the
    same function in PyTorch.
    """
    finite = np.where(np.isfinite(values), values, median)
    return np.clip(np.arcsinh((finite - median) / scale), -clip, clip)
