"""Tests of a candidate's session scores: pairwise, over all presets that were tried, and of a Sharpe ratio.

A score is one number per session, since minutes of one session are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kurtosis, norm, skew

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.evaluation.forecasts import Floats

EULER = 0.5772156649015329
FEWEST_PERIODS = 20
"""Periods that ``overfitting_probability`` needs for its ten blocks."""


def diebold_mariano(scores: Floats, horizon: int = 1) -> tuple[float, float]:
    """Return the Diebold-Mariano statistic and the two-sided p-value of the mean of score differences (sessions,).

    The variance is Newey and West's with ``horizon`` - 1 lags, at least the cube root of the number of sessions; the
    correction of Harvey, Leybourne and Newbold (1997) applies. Without variance both are NaN.

    Args:
        scores: candidate minus rival, one per session; above 0 the candidate is better.
        horizon: sessions that a label covers.
    """
    from statsmodels.tsa.stattools import diebold_mariano_test  # type: ignore[import-untyped]

    if len(scores) < 3 or np.ptp(scores) == 0:
        return math.nan, math.nan
    zeros = np.zeros_like(scores)
    found = diebold_mariano_test(
        zeros, scores, zeros, criterion=lambda _, score: score, harvey_adj=True, horizon=horizon
    )
    return float(found.statistic), float(found.pvalue)


@dataclass(frozen=True)
class Superiority:
    """Tests of several presets against a benchmark on the same sessions.

    Attributes:
        presets: presets that were compared.
        sessions: common sessions.
        p_value: of Hansen's test of superior predictive ability (consistent): the probability of a best preset this
            good if no preset had skill.
        superior: presets that Romano and Wolf's StepM finds better, with a familywise error of ``size``.
        size: of StepM.
    """

    presets: int
    sessions: int
    p_value: float
    superior: tuple[str, ...]
    size: float


def superiority(
    scores: Mapping[str, Floats], *, size: float = 0.05, samples: int = 1000, seed: int = 11
) -> Superiority:
    """Test the score of every preset against a benchmark of score 0, with the stationary bootstrap.

    The mean block length is the largest that Politis and White's rule gives for a preset.

    Args:
        scores: by preset, one value per session (sessions,), all of the same sessions; above 0 is better.
        size: familywise error of StepM.
        samples: resamples.
        seed: of the bootstrap.

    Raises:
        InvalidValueError: there is no preset, or presets have different numbers of sessions.
    """
    from arch.bootstrap import SPA, optimal_block_length

    names, lengths = list(scores), {len(each) for each in scores.values()}
    if len(lengths) != 1:
        raise InvalidValueError(
            "the scores of presets", sorted(lengths), "one number of sessions, of at least one preset"
        )
    losses = -np.stack([scores[name] for name in names], axis=1)
    varying = losses.std(axis=0) > 0
    if not varying.any():
        return Superiority(len(names), len(losses), 1.0, (), size)
    block = max(1, round(float(optimal_block_length(losses[:, varying])["stationary"].max())))
    options = {"block_size": block, "reps": samples, "bootstrap": "stationary", "seed": seed}
    spa = SPA(np.zeros(len(losses)), losses[:, varying], **options)
    spa.compute()
    p_value = float(spa.pvalues["consistent"])
    left = np.ones(int(varying.sum()), dtype=bool)
    while left.any():  # StepM of arch 8.0 raises where its second or a later step finds all that are left
        spa.subset(left)
        spa.compute()
        better = spa.better_models(size)
        if not len(better):
            break
        left[better] = False
    found = [name for name, varies in zip(names, varying, strict=True) if varies]
    best = tuple(found[index] for index in np.flatnonzero(~left))
    return Superiority(len(names), len(losses), p_value, best, size)


def probabilistic_sharpe(returns: Floats, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio of ``returns`` exceeds ``benchmark``, both per period.

    Bailey and Lopez de Prado (2012), "The Sharpe ratio efficient frontier": the standard error takes skewness and
    kurtosis into account. NaN without variance.
    """
    sharpe, error = _sharpe_with_error(returns)
    return float(norm.cdf((sharpe - benchmark) / error)) if error > 0 else math.nan


def deflated_sharpe(returns: Floats, trials: float, variance: float) -> float:
    """Return the probability that the true Sharpe ratio exceeds what the best of ``trials`` reaches by chance.

    Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio".

    Args:
        returns: of the best trial, one per period.
        trials: number of effectively independent trials; see ``effective_trials``.
        variance: of the Sharpe ratios of the trials, per period.
    """
    return probabilistic_sharpe(returns, expected_best_sharpe(trials, variance))


def expected_best_sharpe(trials: float, variance: float) -> float:
    """Return the expected largest Sharpe ratio of ``trials`` independent trials without skill, per period."""
    if trials <= 1:
        return 0.0
    first, second = norm.ppf(1 - 1 / trials), norm.ppf(1 - 1 / (trials * math.e))
    return float(math.sqrt(variance) * ((1 - EULER) * first + EULER * second))


def effective_trials(returns: Floats) -> float:
    """Return how many independent trials ``returns`` (periods, trials) are worth: between 1 and their number.

    With the mean correlation r of n trials it is r + (1 - r) n (Bailey and Lopez de Prado 2014, appendix 3), r at least
    0. Trials without variance do not count.
    """
    varying = returns[:, returns.std(axis=0) > 0]
    number = varying.shape[1]
    if number < 2:
        return 1.0
    mean = (float(np.corrcoef(varying, rowvar=False).sum()) - number) / (number * (number - 1))
    mean = min(max(mean, 0.0), 1.0)
    return float(mean + (1 - mean) * number)


def minimum_track_record(returns: Floats, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Return the periods after which a Sharpe ratio like that of ``returns`` is significant; inf if it is not higher.

    Bailey and Lopez de Prado (2012), equation 11; ``benchmark`` is per period.
    """
    sharpe, error = _sharpe_with_error(returns)
    if not error > 0:
        return math.nan
    if sharpe <= benchmark:
        return math.inf
    return 1 + float((error**2 * (len(returns) - 1)) * (norm.ppf(confidence) / (sharpe - benchmark)) ** 2)


def sharpe_error(sharpe: float, periods: int, skewness: float, kurtosis_: float) -> float:
    """Return the standard error of a Sharpe ratio per period; a normal distribution has skewness 0 and kurtosis 3."""
    return math.sqrt((1 - skewness * sharpe + (kurtosis_ - 1) / 4 * sharpe**2) / (periods - 1))


def _sharpe_with_error(returns: Floats) -> tuple[float, float]:
    """Return Sharpe ratio and its standard error per period; NaN and 0 without variance."""
    if len(returns) < 3 or np.ptp(returns) == 0:
        return math.nan, 0.0
    sharpe = float(returns.mean() / returns.std(ddof=1))
    return sharpe, sharpe_error(sharpe, len(returns), float(skew(returns)), float(kurtosis(returns, fisher=False)))


def overfitting_probability(returns: Floats, blocks: int = 10) -> float:
    """Return the probability that the best trial of a search is below the median of the trials out of sample.

    Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado and Zhu 2017): the periods are cut into
    ``blocks``; for each choice of half of them, the trial with the best Sharpe ratio there is ranked in the other half.

    Args:
        returns: (periods, trials), in order of time.
        blocks: even number of blocks; the number of choices is blocks over blocks / 2.

    Raises:
        InvalidValueError: fewer than two trials, an odd number of blocks, or fewer than two periods in a block, as in a
            transposed array.
    """
    periods, trials = returns.shape
    if trials < 2 or blocks % 2 or periods < 2 * blocks:
        expected = "at least two trials and two periods in each of an even number of blocks"
        raise InvalidValueError("returns (periods, trials) and blocks", (*returns.shape, blocks), expected)
    parts = np.array_split(np.arange(periods), blocks)
    sums = np.stack([returns[part].sum(axis=0) for part in parts])
    squares = np.stack([(returns[part] ** 2).sum(axis=0) for part in parts])
    sizes = np.array([len(part) for part in parts])

    def sharpes(chosen: Sequence[int]) -> Floats:
        n = sizes[list(chosen)].sum()
        mean = sums[list(chosen)].sum(axis=0) / n
        variance = squares[list(chosen)].sum(axis=0) / n - mean**2
        ratios: Floats = np.divide(mean, np.sqrt(variance.clip(0)), out=np.zeros(trials), where=variance > 0)
        return ratios

    below = []
    for inside in combinations(range(blocks), blocks // 2):
        outside = sharpes([each for each in range(blocks) if each not in inside])
        best = int(np.argmax(sharpes(inside)))
        rank = (outside < outside[best]).sum() + 0.5 * ((outside == outside[best]).sum() + 1)
        below.append(rank / (trials + 1) <= 0.5)
    return float(np.mean(below))
