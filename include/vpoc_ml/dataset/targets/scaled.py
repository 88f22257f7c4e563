"""The rank target, and targets linear in a quantity: the return, its normal score, or the return per volatility.

The linear map brings the quantity to rank units. One Huber delta, one starting prediction and one meaning of a score
therefore suit all of them. A network of this size that is trained on unscaled returns of 1e-4 loses a fifth of the
signal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.quantiles import even_quantiles, interpolated_rank
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.targets.base import MIDDLE, Floats, RankUnits, finite_returns


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


FLOOR_PERCENTILE = 5.0
NORMAL_STEP = 0.1
LARGEST_MOVE = 5.0  # bound of the return in units of its volatility


@dataclass(frozen=True)
class LinearTarget(RankUnits):
    """0.5 + ``slope`` (quantity - ``centre``): ``centre`` is the training mean, ``slope`` ranks per unit.

    The slope is the rise of the mean rank per unit if the quantity rises by the same amount in every training row. To
    first order, an output is therefore the rank that a forecast of the quantity implies.
    """

    centre: float
    slope: float

    @abstractmethod
    def quantity(self, returns: Floats, volatility: Floats | None) -> Floats:
        """Return the quantity of finite returns [n], in its own unit."""

    def apply(self, returns: Floats, volatility: Floats | None = None) -> Floats:
        """Return the quantity in rank units; NaN where the return is not finite."""
        finite = np.where(np.isfinite(returns), returns, 0.0)
        target = MIDDLE + self.slope * (self.quantity(finite, volatility) - self.centre)
        return np.where(np.isfinite(returns), target, np.nan)

    @property
    def zero_score(self) -> float:
        """Score of a zero return."""
        return float(self.apply(np.zeros(1), np.ones(1))[0])


@dataclass(frozen=True)
class ReturnTarget(LinearTarget):
    """The log return, clipped to +- ``clip``. Ties need no special treatment."""

    kind: ClassVar[str] = "return"
    predicts: ClassVar[str] = "the expected log return"

    clip: float

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> ReturnTarget:
        """Fit mean and slope; ``config.return_clip`` is the bound."""
        known = np.clip(finite_returns(returns), -config.return_clip, config.return_clip)
        return cls(float(known.mean()), return_slope(known), config.return_clip)

    def quantity(self, returns: Floats, volatility: Floats | None) -> Floats:
        """Return the clipped log returns."""
        return np.clip(returns, -self.clip, self.clip)


@dataclass(frozen=True)
class VolScaledTarget(LinearTarget):
    """The log return divided by the volatility known at the row, clipped to +- 5.

    A volatility below ``floor``, the fifth percentile of the training rows, counts as the floor. Otherwise nights with
    little trading would dominate the loss. A non-finite volatility counts as ``usual``, their median. The score ranks
    the return per unit of risk. A zero return stays zero at any volatility.
    """

    kind: ClassVar[str] = "vol_scaled"
    predicts: ClassVar[str] = "the expected log return in units of the volatility known at the bar"
    needs_volatility: ClassVar[bool] = True

    floor: float
    usual: float

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> VolScaledTarget:
        """Fit floor, mean and slope from rows with a finite return; ``volatility`` is needed."""
        finite_returns(returns)
        rows = np.isfinite(returns)
        known = _volatility(volatility, returns)[rows]
        positive = known[np.isfinite(known) & (known > 0)]
        if positive.size == 0:
            positive = np.array([fit_robust_scaling(returns).scale])
        floor, usual = float(np.percentile(positive, FLOOR_PERCENTILE)), float(np.median(positive))
        raw = cls(0.0, 1.0, floor, usual)
        moves, unit = raw.quantity(returns[rows], known), raw._unit(known)
        ecdf = RankTarget.fit(returns)
        step = fit_robust_scaling(moves).scale
        return cls(float(moves.mean()), _rise(lambda by: ecdf.apply((moves + by) * unit), step), floor, usual)

    def quantity(self, returns: Floats, volatility: Floats | None) -> Floats:
        """Return the clipped ratio of return and volatility."""
        return np.clip(returns / self._unit(_volatility(volatility, returns)), -LARGEST_MOVE, LARGEST_MOVE)

    def _unit(self, volatility: Floats) -> Floats:
        return np.maximum(np.where(np.isfinite(volatility), volatility, self.usual), self.floor)


@dataclass(frozen=True)
class RankGaussTarget(LinearTarget):
    """The normal quantile of the return's rank. The tails weigh more than in ``rank`` and less than in ``return``.

    Ranks are interpolated between ``quantiles``, 1001 quantiles of the training returns. Equal returns, such as zeros,
    get the middle of their ranks. Ranks are limited to [``tail``, 1 - ``tail``], half a training row from the ends.
    """

    kind: ClassVar[str] = "rank_gauss"
    predicts: ClassVar[str] = "the expected normal score of the return's rank"

    quantiles: Floats
    tail: float

    @classmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> RankGaussTarget:
        """Fit the quantiles, and mean and slope of the normal scores."""
        known = finite_returns(returns)
        quantiles = even_quantiles(known)
        raw = cls(0.0, 1.0, quantiles, 0.5 / known.size)
        scores = raw.quantity(known, None)
        return cls(float(scores.mean()), _rise(lambda by: ndtr(scores + by), NORMAL_STEP), quantiles, raw.tail)

    def quantity(self, returns: Floats, volatility: Floats | None) -> Floats:
        """Return the normal scores."""
        scores: Floats = ndtri(np.clip(interpolated_rank(returns, self.quantiles), self.tail, 1 - self.tail))
        return scores


def return_slope(known: Floats) -> float:
    """Return the rise of the mean rank per unit of log return, over sorted training returns [n]."""
    ecdf = RankTarget(known)
    return _rise(lambda by: ecdf.apply(known + by), fit_robust_scaling(known).scale)


def _rise(ranks: Callable[[float], Floats], step: float) -> float:
    """Return the rise of the mean rank per unit between -``step`` and ``step``.

    For returns ``step`` is a robust standard deviation. A step within a tick would change no rank.
    """
    return float((ranks(step).mean() - ranks(-step).mean()) / (2 * step))


def _volatility(volatility: Floats | None, returns: Floats) -> Floats:
    if volatility is None or volatility.shape != returns.shape:
        found = "none" if volatility is None else f"an array of shape {volatility.shape}"
        raise ValueError(f"vol_scaled needs one volatility per return, shape {returns.shape}; was {found}")
    return volatility
