"""Evidence that stays valid however often one looks: e-processes and confidence sequences of session scores.

A nightly rule looks at its evidence every night. An interval at 95 % excludes the truth on one night in twenty, and
over a year of nights almost surely at some time. An e-process is the wealth of a gambler who starts with 1 and bets
against the null hypothesis that a score has no positive mean. Under the hypothesis no strategy can be expected to gain,
and the wealth ever reaches 1 / alpha with a probability of at most alpha (Ville's inequality): on any night, and
whatever happened before. Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting";
Choe and Ramdas (2024), "Comparing sequential forecasters".
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

from vpoc_ml.evaluation.forecasts import Floats

FRACTIONS = np.array([1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 0.9])
"""Shares of the wealth that are bet. The wealth is the mean over all of them: whichever suits the score dominates."""
WARM_UP = 5
"""Sessions that only measure the scale of a score; nothing is bet on them."""
CLIP = 3.0
"""Scores beyond this many scales count as much as at it: one session can neither make nor ruin the evidence. The
hypothesis is about the mean of the clipped scores. A lower value finds skill sooner and hides rare large losses: in
random walks, bets on a return to the open reach evidence of 20 to 1 in 60 % of the years at 1.5 and in 5 % at 3."""


def bounded(scores: Floats, stride: int = 1) -> Floats:
    """Return scores divided by ``CLIP`` times their scale, in [-1, 1], (sessions,); NaN where nothing is bet.

    The scale of a session is the root mean square of the clipped earlier scores, so it is known before the session.
    Nothing is bet on the first ``WARM_UP`` sessions, on a session without a score (NaN), and where all earlier scores
    were 0.

    Args:
        scores: one value per session, oldest first.
        stride: labels of one session end ``stride`` - 1 sessions later. Only every ``stride``-th session counts then:
            the label of a session is known before the next one that counts.
    """
    result = np.full(len(scores), np.nan)
    squares, number = 0.0, 0
    for index in range(0, len(scores), stride):
        if not math.isfinite(value := float(scores[index])):
            continue
        scale = math.sqrt(squares / number) if number else 0.0
        if number >= WARM_UP and scale > 0:
            result[index] = min(max(value / (CLIP * scale), -1.0), 1.0)
            value = min(max(value, -CLIP * scale), CLIP * scale)  # an outlier must not widen the scale for long
        squares, number = squares + value * value, number + 1
    return result


def log_wealth(values: Floats) -> Floats:
    """Return the log of the e-process against "no positive mean", after each session, (sessions,).

    Args:
        values: in [-1, 1], one per session; see ``bounded``.
    """
    paths = np.cumsum(np.log1p(FRACTIONS[:, None] * np.nan_to_num(values)), axis=1)
    return np.asarray(logsumexp(paths, axis=0) - math.log(len(FRACTIONS)))


def lower_bound(values: Floats, alpha: float) -> float:
    """Return the lower confidence bound of the mean of ``values`` in [-1, 1]; it holds on all nights at once.

    NaN do not count. The bound is the smallest mean against which the wealth has not reached 1 / ``alpha``. The upper
    bound is minus the lower bound of the negative values.
    """

    values = values[np.isfinite(values)]

    def evidence(mean: float) -> float:  # falls with the mean
        factor = FRACTIONS[:, None] / (1.0 + mean)  # the largest loss of a bet is then its share of the wealth
        paths = np.log1p(factor * (values - mean)).sum(axis=1)
        return float(logsumexp(paths) - math.log(len(FRACTIONS)) + math.log(alpha))

    low, high = -1.0 + 1e-9, 1.0
    return -1.0 if evidence(low) < 0 else float(brentq(evidence, low, high, xtol=1e-9))


def log_detector(values: Floats) -> Floats:
    """Return the log of the Shiryaev-Roberts e-detector, (sessions,): the evidence of a mean above 0 since any night.

    It is the sum of the e-processes that start at each session. While the hypothesis holds, it reaches L after L
    sessions on average, or later (Shin, Ramdas and Rinaldo 2023, "E-detectors"). The old sessions of a good time do not
    hide a bad one, unlike in ``log_wealth``.
    """
    growth = np.log1p(FRACTIONS[:, None] * np.nan_to_num(values))
    state, path = np.full(len(FRACTIONS), -np.inf), np.empty(len(values))
    for index in range(len(values)):
        state = np.logaddexp(state, 0.0) + growth[:, index]
        path[index] = logsumexp(state) - math.log(len(FRACTIONS))
    return path
