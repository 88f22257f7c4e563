"""Targets with several outputs: classes cut at quantiles of the training returns, and quantiles of the return.

Classes are down or up, or one of n. Quantiles have one output per level and are trained with the pinball loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, logit, softmax

from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.targets.base import MIDDLE, Floats, Loss, Target, finite_returns
from vpoc_ml.dataset.targets.scaled import RankTarget, ReturnTarget, return_slope
from vpoc_ml.errors import InvalidValueError


@dataclass(frozen=True)
class BinaryTarget(Target):
    """1 for a rise, 0 for a fall, 0.5 for an unchanged price, which favours neither side.

    ``fall`` and ``rise`` are the mean training ranks of the two; ``share`` is the mean target. The score
    is the mean rank that the probability implies, so it crosses its threshold at a probability of one half.
    """

    kind: ClassVar[str] = "binary"
    predicts: ClassVar[str] = "the logit of the probability of a rise, half of the unchanged prices counted as rises"
    loss: ClassVar[Loss] = "bce"

    share: float
    fall: float
    rise: float

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> BinaryTarget:
        """Fit the share of rises, and the mean ranks of falls and rises (0 and 1 if there are none)."""
        known = finite_returns(returns)
        ranks, rises = RankTarget(known).apply(known), _rises(known)
        means = [float(ranks[rises == side].mean()) if (rises == side).any() else side for side in (0.0, 1.0)]
        edge = 0.5 / known.size
        return cls(float(np.clip(rises.mean(), edge, 1 - edge)), *means)

    def apply(self, returns: Floats, volatility: Floats | None = None) -> Floats:
        """Return 0, 0.5 or 1 for each return; NaN where it is not finite."""
        return np.where(np.isfinite(returns), _rises(returns), np.nan)

    def score(self, outputs: Floats) -> Floats:
        """Return the mean rank that logits [n] imply."""
        scores: Floats = self.fall + (self.rise - self.fall) * expit(outputs)
        return scores

    @property
    def start(self) -> tuple[float, ...]:
        """The logit of the mean target."""
        return (float(logit(self.share)),)

    @property
    def zero_score(self) -> float:
        """Score at a probability of one half."""
        return 0.5 * (self.fall + self.rise)


@dataclass(frozen=True)
class MulticlassTarget(Target):
    """The number of the class, 0 to n - 1, cut at ``edges`` [n - 1]; a return on an edge is in the upper class.

    Edge k is the smallest training return with a mid-rank of at least k / n. All zero returns are therefore in one
    class. If n is odd and rises and falls are equally frequent, it is the middle class. Two edges coincide if many
    returns are equal. The empty class between them is left out, so there can be fewer than the ``classes`` of
    ``dataset.target``. ``ranks`` [n] and ``shares`` [n] are the mean training rank and the share of training rows of
    each class. The score is the mean rank that the probabilities imply. ``zero_rank`` is the mid-rank of a zero return.
    """

    kind: ClassVar[str] = "multiclass"
    predicts: ClassVar[str] = "the logits of the classes between quantiles of the training returns"
    loss: ClassVar[Loss] = "cross_entropy"

    edges: Floats
    ranks: Floats
    shares: Floats
    zero_rank: float

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> MulticlassTarget:
        """Fit the edges of ``config.target.classes`` classes, their mean ranks and shares."""
        known = finite_returns(returns)
        ecdf = RankTarget(known)
        ranks = ecdf.apply(known)
        first = np.searchsorted(ranks, np.arange(1, config.target.classes) / config.target.classes)
        edges = np.unique(known[first[first < known.size]])
        edges = edges[edges > known[0]]
        if edges.size == 0:
            expected = "a kind that needs no classes: nearly all training returns are equal"
            raise InvalidValueError("dataset.target", cls.kind, expected)
        classes = np.searchsorted(edges, known, side="right")
        counts = np.bincount(classes, minlength=edges.size + 1)
        means = np.bincount(classes, ranks, edges.size + 1) / counts
        return cls(edges, means, counts / known.size, ecdf.zero_score)

    def apply(self, returns: Floats, volatility: Floats | None = None) -> Floats:
        """Return the number of each return's class as a float; NaN where the return is not finite."""
        classes = np.searchsorted(self.edges, returns, side="right").astype(np.float64)
        return np.where(np.isfinite(returns), classes, np.nan)

    def score(self, outputs: Floats) -> Floats:
        """Return the mean rank that logits [n, classes] imply."""
        scores: Floats = softmax(outputs, axis=1) @ self.ranks
        return scores

    @property
    def start(self) -> tuple[float, ...]:
        """The logarithms of the classes' shares."""
        return tuple(float(value) for value in np.log(self.shares))

    @property
    def zero_score(self) -> float:
        """Mid-rank of an unchanged price."""
        return self.zero_rank


def _rises(returns: Floats) -> Floats:
    rises: Floats = 0.5 * (1.0 + np.sign(returns))
    return rises


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
