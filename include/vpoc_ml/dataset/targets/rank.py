"""Rank target: where a return stands in the distribution of the training returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpoc_ml.errors import InputError

Floats = npt.NDArray[np.float64]
QUANTILES = 1001


@dataclass(frozen=True)
class RankTarget:
    """The empirical distribution of the training returns. ``returns`` are finite and sorted."""

    returns: Floats

    @classmethod
    def fit(cls, returns: Floats) -> RankTarget:
        """Take the finite returns of the training rows.

        Raises:
            InputError: there is none.
        """
        finite = np.sort(returns[np.isfinite(returns)])
        if finite.size == 0:
            raise InputError(
                "Expected training rows with a label; found none."
                " Look at the bars: no bar is followed by another within the label's horizon."
            )
        return cls(finite)

    def ranks(self, returns: Floats) -> Floats:
        """Return the mid-rank of each return in [0, 1]; tied returns get the middle of their ranks; NaN stays NaN.

        Mid-ranks keep the mean of the training targets at exactly 0.5, however many returns are zero.
        """
        below = np.searchsorted(self.returns, returns, side="left")
        up_to = np.searchsorted(self.returns, returns, side="right")
        ranks: Floats = (below + up_to) / (2 * self.returns.size)
        return np.where(np.isfinite(returns), ranks, np.nan)

    @property
    def zero_rank(self) -> float:
        """Mid-rank of an unchanged price: a prediction above it says "up"."""
        return float(self.ranks(np.zeros(1))[0])

    def quantiles(self) -> list[float]:
        """Return the 1001 quantiles 0, 0.001, ..., 1 of the training returns: turns a rank into a return."""
        return [float(value) for value in np.quantile(self.returns, np.linspace(0, 1, QUANTILES))]
