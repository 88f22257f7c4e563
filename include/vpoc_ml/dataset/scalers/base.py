"""The interface of all scalers of one column."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from vpoc_ml.artifacts.feature_statistics import FittedColumnScaler

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
