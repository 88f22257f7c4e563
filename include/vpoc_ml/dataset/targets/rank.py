"""Rank target: the rank of a return among the training returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.quantiles import even_quantiles
from vpoc_ml.dataset.targets.base import Floats, RankUnits, finite_returns


@dataclass(frozen=True)
class RankTarget(RankUnits):
    """The empirical distribution of the training returns. ``returns`` are finite and sorted.

    A zero return gets the middle of the ranks of all zero returns. The scores of every other kind are on this scale,
    and the evaluation measures losses on it.
    """

    kind: ClassVar[str] = "rank"
    predicts: ClassVar[str] = "the expected rank of the return among the training returns, in [0, 1]"

    returns: Floats

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None = None, config: DatasetConfig | None = None) -> RankTarget:
        """Fit on the finite returns of the training rows.

        Raises:
            InputError: there is none.
        """
        return cls(finite_returns(returns))

    def apply(self, returns: Floats, volatility: Floats | None = None) -> Floats:
        """Return the mid-rank of each return in [0, 1]; tied returns get the middle of their ranks; NaN stays NaN.

        Mid-ranks keep the mean of the training targets at exactly 0.5, however many returns are zero.
        """
        below = np.searchsorted(self.returns, returns, side="left")
        up_to = np.searchsorted(self.returns, returns, side="right")
        ranks: Floats = (below + up_to) / (2 * self.returns.size)
        return np.where(np.isfinite(returns), ranks, np.nan)

    @property
    def zero_score(self) -> float:
        """Mid-rank of an unchanged price. A higher prediction means a rise."""
        return float(self.apply(np.zeros(1))[0])

    def quantiles(self) -> list[float]:
        """Return the 1001 quantiles 0, 0.001, ..., 1 of the training returns. They turn a rank into a return."""
        return [float(value) for value in even_quantiles(self.returns)]
