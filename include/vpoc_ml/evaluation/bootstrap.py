"""Block bootstrap by session.

Minutes of one session share its volatility, its news and, with a horizon above one bar, parts of the same label.
They are not independent. Resampling complete sessions keeps this dependence inside the block. The unit of evidence is
the session, not the minute. Intervals are therefore wider than those of a binomial formula on the rows, especially
with few sessions. Dependence across sessions, such as a volatility regime of weeks, is not covered. With few sessions
out of one regime, the interval applies to that regime only.

Every statistic here is a function of sums over rows. Each session is reduced to its sums once, and a resample costs
O(sessions), independent of the number of minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.dataset.splits import MIN_PART_SESSIONS
from vpoc_ml.errors import InsufficientSessionsError
from vpoc_ml.evaluation.forecasts import Floats

_CHUNK = 2_000

Statistic = Callable[[Floats], Floats]
"""A function from sums (..., k) to one value per leading index; NaN where it is undefined."""


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples: ``counts`` (samples, sessions) is how often each session occurs in each resample.

    All statistics of an evaluation use the same resamples. Two models are compared by the difference of their
    statistics on the same resample. The effect of a difficult session on both cancels. A paired gain can therefore
    exclude zero while the intervals of the two models overlap.
    """

    counts: npt.NDArray[np.int16]
    confidence: float

    @property
    def sessions(self) -> int:
        """Return the number of sessions."""
        return int(self.counts.shape[1])

    def draws(self, sums: Floats, statistic: Statistic) -> Floats:
        """Return ``statistic`` of each resample, (samples,), for ``sums`` (sessions, k)."""
        starts = range(0, len(self.counts), _CHUNK)
        return np.concatenate([statistic(self.counts[start : start + _CHUNK] @ sums) for start in starts])

    def interval(self, sums: Floats, statistic: Statistic) -> Interval | None:
        """Return the statistic on all sessions with its percentile interval; None if it is undefined.

        Resamples with an undefined statistic (no row that moved, no variance) are left out.
        """
        value = float(statistic(sums.sum(axis=0)))
        draws = self.draws(sums, statistic)
        draws = draws[np.isfinite(draws)]
        if not math.isfinite(value) or draws.size == 0:
            return None
        tail = tail_probability(self.confidence, self.sessions)
        low, high = np.quantile(draws, (tail, 1.0 - tail))
        return Interval(value, float(low), float(high))


def draw(sessions: int, *, samples: int, confidence: float, seed: int) -> Resamples:
    """Draw ``samples`` resamples of ``sessions`` sessions with replacement.

    Raises:
        InsufficientSessionsError: fewer than three sessions, too few to estimate a variance.
    """
    if sessions < MIN_PART_SESSIONS:
        raise InsufficientSessionsError(
            "the test split", sessions, MIN_PART_SESSIONS, "intervals come from resampling whole sessions"
        )
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(sessions, np.full(sessions, 1.0 / sessions), size=samples)
    return Resamples(counts.astype(np.int16), confidence)


def tail_probability(confidence: float, sessions: int) -> float:
    """Return the quantile of the bootstrap distribution for each bound.

    The plain percentile interval is too narrow for few blocks: it corresponds to a normal instead of a t quantile, and
    its standard deviation is too small by sqrt((n-1)/n). More extreme quantiles correct both to first order (Hesterberg
    2015, "What Teachers Should Know About the Bootstrap", expanded percentile interval). With three sessions they are
    the smallest and the largest resample.
    """
    quantile = t.ppf((1.0 - confidence) / 2.0, sessions - 1)
    return float(norm.cdf(math.sqrt(sessions / (sessions - 1)) * quantile))
