"""Quantile targets: one output per level, trained with the pinball loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.targets.base import MIDDLE, Floats, Loss, finite_returns
from vpoc_ml.dataset.targets.scaled import ReturnTarget, return_slope


@dataclass(frozen=True)
class QuantilesTarget(ReturnTarget):
    """Quantiles of the log return at ``levels`` [q], in the rank units of the ``return`` kind.

    The score is the mean of a row's quantiles, a trimmed mean of its distribution. The median would lose half of the
    signal: where many returns are zero, the median of nearly every row is zero. The levels are symmetric about 0.5, so
    the mean is a centre. Crossing outputs need no sorting, because the mean does not depend on their order. ``usual``
    [q] are the quantiles of the training returns; ``centre`` is their mean.
    """

    kind: ClassVar[str] = "quantiles"
    predicts: ClassVar[str] = "the quantiles of the log return at the chosen levels"
    loss: ClassVar[Loss] = "pinball"

    levels: Floats
    usual: Floats

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> QuantilesTarget:
        """Fit the training quantiles and the slope; ``config.target.levels`` are the levels."""
        levels = np.asarray(config.target.levels, np.float64)
        known = np.clip(finite_returns(returns), -config.return_clip, config.return_clip)
        usual = np.quantile(known, levels)
        return cls(float(usual.mean()), return_slope(known), config.return_clip, levels, usual)

    def score(self, outputs: Floats) -> Floats:
        """Return the mean of the quantiles [n, q] of each row."""
        scores: Floats = outputs.reshape(len(outputs), -1).mean(axis=1)
        return scores

    @property
    def start(self) -> tuple[float, ...]:
        """The training quantiles in rank units."""
        return tuple(float(value) for value in MIDDLE + self.slope * (self.usual - self.centre))
