"""Scalings by a centre and a spread, and by bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vpoc_ml.dataset.robust_scaling import CLIP, fit_robust_scaling, robust_scale
from vpoc_ml.dataset.scalers.base import ColumnScaler, Floats

MAD_CLIP = 10.0
MAD_TO_SIGMA = 1.482602218505602  # 1 / the 75 % quantile of a standard normal
WINSOR_PERCENTILES = ((1.0, 99.0), (0.1, 99.9), (0.0, 100.0))


@dataclass(frozen=True)
class Robust(ColumnScaler):
    """The scaling of the model's input guard, see ``robust_scaling``."""

    kind: ClassVar[str] = "robust"
    formula: ClassVar[str] = "asinh((x - median) / scale), clipped to +- 6"

    median: float
    scale: float

    @classmethod
    def fit(cls, values: Floats) -> Robust:
        """Fit median and scale."""
        found = fit_robust_scaling(values)
        return cls(found.median, found.scale)

    def apply(self, values: Floats) -> Floats:
        """Return the scaled values in [-6, 6]."""
        return robust_scale(values, self.median, self.scale, CLIP)


@dataclass(frozen=True)
class Mad(ColumnScaler):
    """Median and median absolute deviation in standard deviations of a normal distribution, clipped to +- 10.

    If more than half of the values are equal, the deviation is zero. The scale is then that of ``fit_robust_scaling``,
    which uses wider percentiles. ``outlier_share`` is the share of clipped training values.
    """

    kind: ClassVar[str] = "mad"
    formula: ClassVar[str] = "(x - median) / (1.4826 MAD), clipped to +- 10"

    median: float
    scale: float
    outlier_share: float

    @classmethod
    def fit(cls, values: Floats) -> Mad:
        """Fit median and scale, and the share of values beyond the bound."""
        median = float(np.median(values))
        distance = np.abs(values - median)
        scale = MAD_TO_SIGMA * float(np.median(distance)) or fit_robust_scaling(values).scale
        return cls(median, scale, float((distance > MAD_CLIP * scale).mean()))

    def apply(self, values: Floats) -> Floats:
        """Return the scaled values in [-10, 10]."""
        return np.clip((values - self.median) / self.scale, -MAD_CLIP, MAD_CLIP)


@dataclass(frozen=True)
class RobustScaler(ColumnScaler):
    """Median and interquartile range without a bound, as ``sklearn.preprocessing.RobustScaler``.

    A range of zero counts as 1.
    """

    kind: ClassVar[str] = "robust_scaler"
    formula: ClassVar[str] = "(x - median) / (75 % quantile - 25 % quantile)"

    median: float
    spread: float

    @classmethod
    def fit(cls, values: Floats) -> RobustScaler:
        """Fit the three quartiles."""
        low, median, high = np.percentile(values, [25.0, 50.0, 75.0])
        return cls(float(median), float(high - low) if high > low else 1.0)

    def apply(self, values: Floats) -> Floats:
        """Return the scaled values."""
        return (values - self.median) / self.spread


@dataclass(frozen=True)
class Winsor(ColumnScaler):
    """Values clipped to the percentiles 1 and 99 of the training rows; the unit stays.

    If these are equal, the bounds are the percentiles 0.1 and 99.9; if those are equal too, the smallest and largest
    value. Otherwise a column that is mostly zero would become constant.
    """

    kind: ClassVar[str] = "winsor"
    formula: ClassVar[str] = "x, clipped to its percentiles 1 and 99"

    low: float
    high: float

    @classmethod
    def fit(cls, values: Floats) -> Winsor:
        """Fit the bounds."""
        edges = np.percentile(values, WINSOR_PERCENTILES)
        low, high = next((pair for pair in edges if pair[1] > pair[0]), edges[-1])
        return cls(float(low), float(high))

    def apply(self, values: Floats) -> Floats:
        """Return the values within the bounds."""
        return np.clip(values, self.low, self.high)
