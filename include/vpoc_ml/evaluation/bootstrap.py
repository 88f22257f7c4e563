"""Block bootstrap by session.

Minutes of one session share its volatility, its news and, with a horizon above one bar, parts of the
same label: they are not independent draws. Resampling whole sessions keeps that dependence inside the
block and makes the session, not the minute, the unit of evidence. Intervals are therefore wider than
those of a binomial formula on the rows, and the more so the fewer sessions there are. Dependence that
reaches beyond one session (a volatility regime of weeks) is not covered: with few sessions out of one
regime the interval speaks about that regime only.

Every statistic here is a function of sums over rows, so each session is reduced to its sums once and
a resample costs O(sessions), however many minutes there are.
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
"""Maps sums (..., k) to a value for each leading index; NaN where it is undefined."""


@dataclass(frozen=True)
class Resamples:
    """Drawn resamples: how often each session occurs in each, (samples, sessions).

    One object serves every statistic of an evaluation. Two models are compared by the difference of
    their statistics on the same resample: what a hard session does to both cancels, which is why a
    paired gain can exclude zero while the two models' own intervals overlap.
    """

    counts: npt.NDArray[np.int16]
    confidence: float

    @property
    def sessions(self) -> int:
        """Return the number of sessions resampled."""
        return int(self.counts.shape[1])

    def draws(self, sums: Floats, statistic: Statistic) -> Floats:
        """Return ``statistic`` of each resample of ``sums`` (sessions, k), (samples,)."""
        starts = range(0, len(self.counts), _CHUNK)
        return np.concatenate([statistic(self.counts[start : start + _CHUNK] @ sums) for start in starts])

    def interval(self, sums: Floats, statistic: Statistic) -> Interval | None:
        """Return the statistic on all sessions with its percentile interval; None where it is undefined.

        A resample on which the statistic is undefined (no row that moved, no variance) is left out.
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
        InsufficientSessionsError: fewer than three sessions, from which no spread can be judged.
    """
    if sessions < MIN_PART_SESSIONS:
        raise InsufficientSessionsError(
            "the test split", sessions, MIN_PART_SESSIONS, "intervals come from resampling whole sessions"
        )
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(sessions, np.full(sessions, 1.0 / sessions), size=samples)
    return Resamples(counts.astype(np.int16), confidence)


def tail_probability(confidence: float, sessions: int) -> float:
    """Return the quantile of the bootstrap distribution to take on each side.

    The plain percentile interval is too narrow for few blocks: it uses a normal instead of a t
    quantile, and a spread smaller by sqrt((n-1)/n). Taking quantiles further out repairs both in the
    first order (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", expanded percentile
    interval). With three sessions it comes to the smallest and the largest resample.
    """
    quantile = t.ppf((1.0 - confidence) / 2.0, sessions - 1)
    return float(norm.cdf(math.sqrt(sessions / (sessions - 1)) * quantile))
