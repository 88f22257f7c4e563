"""Scalers of the features. They are fitted on training rows, stored as JSON, and equal in training and scoring.

A scaler runs before the model's guard. The guard is fitted on the scaled values. Every kind keeps these rules: a
non-finite value becomes NaN, which the guard replaces; a finite value stays finite; the order of the values is kept; a
constant column stays constant. A new kind is a subclass of ``ColumnScaler`` and an entry in ``KINDS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from vpoc_ml.artifacts.feature_statistics import FittedColumnScaler, FittedScaler
from vpoc_ml.dataset.quantiles import even_quantiles, interpolated_rank
from vpoc_ml.dataset.robust_scaling import CLIP, fit_robust_scaling, robust_scale
from vpoc_ml.errors import InputError, InvalidValueError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnScaler(ABC):
    """An increasing function of one feature, fitted on its finite training values only.

    Attributes:
        kind: name in ``dataset.scaler``.
        formula: description of the function.
    """

    kind: ClassVar[str]
    formula: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, values: Floats) -> Self:
        """Fit on the finite values [n] of the training rows, n >= 1. A constant column is no error."""

    @abstractmethod
    def apply(self, values: Floats) -> Floats:
        """Return the scaled finite values [n]; infinite where the result exceeds the range of a float."""

    def to_json(self) -> FittedColumnScaler:
        """Return the fitted parameters as plain JSON values."""
        return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in asdict(self).items()}

    @classmethod
    def from_json(cls, fitted: FittedColumnScaler) -> Self:
        """Return the scaler whose ``to_json`` is ``fitted``."""
        return cls(**{n: np.asarray(v, np.float64) if isinstance(v, list) else v for n, v in fitted.items()})


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


LARGEST = 1e30
KINDS: dict[str, type[ColumnScaler]] = {
    kind.kind: kind for kind in (Robust, Mad, RobustScaler, Winsor, Quantile, YeoJohnson, BoxCox)
}


@dataclass(frozen=True)
class Scaler:
    """One ``ColumnScaler`` per feature, in model order."""

    kind: str
    columns: tuple[ColumnScaler, ...]

    def apply(self, raw: npt.NDArray[np.floating]) -> Floats:
        """Return scaled features [n, f], float64; NaN exactly where ``raw`` is not finite.

        Raises:
            InputError: another number of columns.
        """
        if raw.ndim != 2 or raw.shape[1] != len(self.columns):
            raise InputError(f"Expected {len(self.columns)} feature columns; was an array of shape {raw.shape}.")
        scaled = np.empty(raw.shape, dtype=np.float64)
        for index, column in enumerate(self.columns):
            scaled[:, index] = apply_column(column, raw[:, index])
        return scaled

    def to_artifact(self) -> FittedScaler:
        """Return the fitted parameters of all columns."""
        return FittedScaler(kind=self.kind, columns=tuple(column.to_json() for column in self.columns))


def apply_column(column: ColumnScaler, raw: npt.NDArray[np.floating]) -> Floats:
    """Return one feature [n] scaled, float64, within +- 1e30; NaN where ``raw`` is not finite."""
    values = raw.astype(np.float64)
    finite = np.isfinite(values)
    with np.errstate(over="ignore", divide="ignore"):
        scaled = column.apply(np.where(finite, values, 0.0))
    return np.where(finite, np.clip(scaled, -LARGEST, LARGEST), np.nan)


def fit_scaler(kind: str, columns: Iterable[npt.NDArray[np.floating]]) -> Scaler:
    """Fit a scaler of ``kind`` on the training rows' columns, each [n]; for a matrix pass its transpose.

    A column without a finite value is fitted as one of zeros.

    Raises:
        InvalidValueError: the kind is unknown.
    """
    scaling, fitted = _class(kind), []
    for column in columns:
        values = column.astype(np.float64)
        finite = values[np.isfinite(values)]
        fitted.append(scaling.fit(finite if finite.size else np.zeros(1)))
    return Scaler(kind, tuple(fitted))


def scaler_from_json(stored: FittedScaler) -> Scaler:
    """Return the scaler with these fitted parameters.

    Raises:
        InvalidValueError: the kind is unknown.
    """
    scaling = _class(stored.kind)
    return Scaler(stored.kind, tuple(scaling.from_json(column) for column in stored.columns))


def _class(kind: str) -> type[ColumnScaler]:
    if kind not in KINDS:
        raise InvalidValueError("dataset.scaler", kind, f"one of {', '.join(KINDS)}")
    return KINDS[kind]


__all__ = ["KINDS", "ColumnScaler", "Scaler", "apply_column", "fit_scaler", "scaler_from_json"]
