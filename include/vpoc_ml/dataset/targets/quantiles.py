"""Quantile targets: one output a level, trained with the pinball loss."""

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

    The score is the mean of a row's quantiles, a trimmed mean of its distribution. Not the median: where
    many returns are zero the median of nearly every row is zero, and half of the signal is lost. For that
    mean to be a centre the levels lie symmetrically about 0.5. Outputs that cross need no sorting, since a
    mean does not change with their order. ``usual`` [q] are the training returns' own quantiles; ``centre``
    is the mean of these.
    """

    kind: ClassVar[str] = "quantiles"
    predicts: ClassVar[str] = "the quantiles of the log return at the chosen levels"
    loss: ClassVar[Loss] = "pinball"

    levels: Floats
    usual: Floats

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> QuantilesTarget:
        """Learn the training quantiles and the slope; ``config.target.levels`` are the levels."""
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
