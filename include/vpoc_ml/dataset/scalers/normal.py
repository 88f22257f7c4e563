"""Scalings that bring a column close to a standard normal: by quantiles, or by a power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtri

from vpoc_ml.dataset.quantiles import even_quantiles, interpolated_rank
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.scalers.base import ColumnScaler, Floats

TAIL = 1e-7
POWER_CLIP = 10.0
FITTED_VALUES = 100_000
FARTHEST = 1e3
"""Bound, in robust scales from the median, of the values that fit a power. A single 1e14 would dominate the fit."""


@dataclass(frozen=True)
class Quantile(ColumnScaler):
    """The normal quantile of a value's rank, interpolated between 1001 training quantiles [k].

    It equals ``sklearn.preprocessing.QuantileTransformer`` with normal output, without that class's random subsample
    and absolute tolerance of 1e-7, which confuses small values with the ends of the column.
    """

    kind: ClassVar[str] = "quantile"
    formula: ClassVar[str] = "normal quantile of the rank among training values, within +- 5.2"

    quantiles: Floats

    @classmethod
    def fit(cls, values: Floats) -> Quantile:
        """Fit the quantiles 0, 0.001, ..., 1."""
        return cls(even_quantiles(values))

    def apply(self, values: Floats) -> Floats:
        """Return normal scores."""
        scores: Floats = ndtri(np.clip(interpolated_rank(values, self.quantiles), TAIL, 1 - TAIL))
        return scores


@dataclass(frozen=True)
class YeoJohnson(ColumnScaler):
    """Yeo and Johnson's power transform (Biometrika 2000) of the robustly scaled value, standardised.

    The value is first centred by its median and divided by its robust scale. The result then does not depend on the
    unit. The plain transform would leave returns of 1e-4 unchanged. ``power`` maximises the likelihood over at most
    100,000 evenly spaced training values.
    """

    kind: ClassVar[str] = "yeo_johnson"
    formula: ClassVar[str] = "standardised Yeo-Johnson power of (x - median) / scale, clipped to +- 10"

    median: float
    scale: float
    power: float
    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: Floats) -> YeoJohnson:
        """Fit median and scale, then the power, then mean and deviation of what it gives."""
        from scipy.stats import yeojohnson_normmax

        found = fit_robust_scaling(values)
        units = np.clip((values - found.median) / found.scale, -FARTHEST, FARTHEST)
        power = float(yeojohnson_normmax(_sample(units))) if np.ptp(units) > 0 else 1.0
        return cls(found.median, found.scale, power, *_moments(yeo_johnson(units, power)))

    def apply(self, values: Floats) -> Floats:
        """Return the standardised values in [-10, 10]."""
        units = (values - self.median) / self.scale
        return _standardise(yeo_johnson(units, self.power), self.mean, self.deviation)


@dataclass(frozen=True)
class BoxCox(ColumnScaler):
    """Box and Cox's power transform (JRSS B 1964), standardised.

    It needs positive values. Other columns are shifted until their smallest training value is one robust scale above
    zero. A value below ``least``, the smallest training value, counts as ``least``. Values are divided by ``unit``,
    their geometric mean, which keeps large powers within the range of a float and has no other effect. ``power``
    maximises the likelihood over at most 100,000 evenly spaced training values.
    """

    kind: ClassVar[str] = "box_cox"
    formula: ClassVar[str] = "standardised Box-Cox power of x (moved above zero where needed), clipped to +- 10"

    least: float
    shift: float
    unit: float
    power: float
    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: Floats) -> BoxCox:
        """Fit the shift, then the power, then mean and deviation of what it gives."""
        from scipy.stats import boxcox_normmax

        found = fit_robust_scaling(values)
        values = np.clip(values, found.median - FARTHEST * found.scale, found.median + FARTHEST * found.scale)
        least = float(values.min())
        shift = 0.0 if least > 0 else found.scale - least
        positive = values + shift
        unit = float(np.exp(np.log(positive).mean()))
        power = float(boxcox_normmax(_sample(positive / unit), method="mle")) if np.ptp(positive) > 0 else 1.0
        return cls(least, shift, unit, power, *_moments(box_cox(positive / unit, power)))

    def apply(self, values: Floats) -> Floats:
        """Return the standardised values in [-10, 10]."""
        positive = np.maximum(values, self.least) + self.shift
        return _standardise(box_cox(positive / self.unit, self.power), self.mean, self.deviation)


def box_cox(values: Floats, power: float) -> Floats:
    """Return (x^power - 1) / power of positive values, log x at power 0."""
    logs = np.log(values)
    return np.expm1(power * logs) / power if power else logs


def yeo_johnson(values: Floats, power: float) -> Floats:
    """Return Box-Cox of 1 + x for x >= 0, and minus Box-Cox with 2 - power of 1 - x for x < 0."""
    up = box_cox(1 + np.maximum(values, 0.0), power)
    down = box_cox(1 - np.minimum(values, 0.0), 2 - power)
    return np.where(values >= 0, up, -down)


def _standardise(values: Floats, mean: float, deviation: float) -> Floats:
    return np.clip((values - mean) / deviation, -POWER_CLIP, POWER_CLIP)


def _moments(values: Floats) -> tuple[float, float]:
    deviation = float(values.std())
    return float(values.mean()), deviation if deviation > 0 else 1.0


def _sample(values: Floats) -> Floats:
    return values[:: -(-values.size // FITTED_VALUES)]
