"""The scaling of one column, and what all kinds of it have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnScaler(ABC):
    """A rising function of one feature, fitted on its finite training values and nothing else.

    Attributes:
        kind: name in ``dataset.scaler``.
        formula: what it computes, in words.
    """

    kind: ClassVar[str]
    formula: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, values: Floats) -> Self:
        """Learn from the finite values [n] of the training rows, n >= 1. A constant column is no error."""

    @abstractmethod
    def apply(self, values: Floats) -> Floats:
        """Return finite values [n] scaled; infinite where the result is too large for a float."""

    def to_json(self) -> dict[str, Any]:
        """Return everything fitted as plain JSON values."""
        return {name: _to_json(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, fitted: dict[str, Any]) -> Self:
        """Return the scaler whose ``to_json`` is ``fitted``."""
        return cls(**{name: _from_json(value) for name, value in fitted.items()})


def _to_json(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _from_json(value: Any) -> Any:
    return np.asarray(value, np.float64) if isinstance(value, list) else value
